"""Logs: one JSON object a line on stdout. Ids, never bodies; secrets are redacted."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
_PATTERNS = re.compile(
    r"xox[a-z]-[\w-]+|xapp-[\w-]+|sk-ant-[\w-]+|AKIA[0-9A-Z]{16}|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_SHORTEST_SECRET = 6  # redacting shorter values would eat ordinary words


class Redactor:
    """Takes secrets out of log lines: known values in plain, base64 and URL form, and patterns.
    `hits` counts the texts in which there was one.
    """

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()
        self.hits = 0

    def learn(self, secrets: Iterable[str]) -> None:
        """Values that must not be seen from now on, besides those known already."""
        forms = set(self._values)
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                forms |= {form for form in _forms(secret) if len(form) >= _SHORTEST_SECRET}
        self._values = tuple(sorted(forms, key=len, reverse=True))

    def text(self, text: str) -> str:
        clean = text
        for value in self._values:
            clean = clean.replace(value, REDACTED)
        clean = _PATTERNS.sub(REDACTED, clean)
        self.hits += clean != text
        return clean

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        return {key: self._clean(value) for key, value in event.items()}

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int | float | bool) or value is None:
            return value
        if isinstance(value, dict):
            return {self.text(str(key)): self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return self.text(str(value))


def _forms(secret: str) -> Iterator[str]:
    """How a secret may stand in a text: as it is, quoted for JSON, Python or an URL, in base64."""
    yield from (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1])
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    for before in range(3):  # bytes of something else, as of SMTP's "\0user\0password"
        raw = b"\0" * before + secret.encode()
        whole = len(raw) // 3 * 3  # what follows changes only the digits behind these
        digits = base64.b64encode(raw[:whole]).decode()[(0, 2, 3)[before] :]
        yield from (digits, digits.replace("+", "-").replace("/", "_"))


_redactor = Redactor()  # of this process, for what is said without a logger


def hidden(text: str) -> str:
    """The text without the secrets that are known to the logs by now."""
    return _redactor.text(text)


def secrets_hidden() -> int:
    """In how many texts of the log a secret was hidden so far."""
    return _redactor.hits


def set_up(level: str, form: str) -> Redactor:
    """Configure structlog, and the standard library's loggers through it."""
    global _redactor  # noqa: PLW0603 - as there is one configuration of structlog
    redactor = _redactor = Redactor()
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # on a terminal too: what is text can be redacted
        redactor,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
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


def catch_crashes() -> None:
    """Log what ends a thread or is raised where nobody can catch it, rather than print it as it is:
    an exception's text may hold anything.
    """

    def log(
        event: str, kind: type[BaseException], error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is not None and kind is not SystemExit:
            structlog.get_logger().critical(event, exc_info=(kind, error, at))

    sys.excepthook = lambda kind, error, at: log("process.crashed", kind, error, at)
    sys.unraisablehook = lambda it: log(
        "exception.not_raised", it.exc_type, it.exc_value, it.exc_traceback
    )
    threading.excepthook = lambda it: log(
        "thread.crashed", it.exc_type, it.exc_value, it.exc_traceback
    )
