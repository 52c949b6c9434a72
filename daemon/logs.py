"""Logs: one JSON object a line on stdout. Ids, never bodies; secrets are redacted."""

from __future__ import annotations

import base64
import logging
import re
import sys
from collections.abc import Iterable
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
_PATTERNS = re.compile(
    r"xox[a-z]-[\w-]+|xapp-[\w-]+|sk-ant-[\w-]+|AKIA[0-9A-Z]{16}|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_SHORTEST_SECRET = 6  # redacting shorter values would eat ordinary words


class Redactor:
    """Takes secrets out of log lines: known values in plain, base64 and URL form, and patterns."""

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        """Values that must not be seen from now on, besides those known already."""
        forms = set(self._values)
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                forms |= {secret, quote(secret, safe="")}
                forms.add(base64.b64encode(secret.encode()).decode().rstrip("="))
        self._values = tuple(sorted(forms, key=len, reverse=True))

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, REDACTED)
        return _PATTERNS.sub(REDACTED, text)

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        return {key: self._clean(value) for key, value in event.items()}

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int | float | bool) or value is None:
            return value
        if isinstance(value, dict):
            return {key: self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return self.text(str(value))


def set_up(level: str, form: str) -> Redactor:
    """Configure structlog, and the standard library's loggers through it."""
    redactor = Redactor()
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    shared.append(redactor)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.getLogger().handlers[:] = [handler]
    set_level(level)
    return redactor


def set_level(level: str) -> None:
    """Log from this level up ("debug", "info", "warning", "error"), from the next line on."""
    threshold = getattr(logging, level.upper())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(threshold))
    # Libraries say at info what belongs to debug, and aioimaplib prints message text there.
    logging.getLogger().setLevel(max(threshold, logging.WARNING))
