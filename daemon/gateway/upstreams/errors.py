"""Errors of clouds, told as the Messages API tells its own. Pure."""

from __future__ import annotations

import json

from daemon.gateway.rules import Rejection

MOST_BYTES = 64 * 1024
MOST_SHOWN = 2_000  # characters


class ErrorReader:
    """A reader for an answer that is an error. What was wrong with a request is told to whoever
    made it; of any other error only its kind: it may name accounts and projects of ours.
    """

    content_type: str | None = "application/json"

    def __init__(self, status: int) -> None:
        self._status = status
        self._held = b""
        self._told = False

    def feed(self, chunk: bytes) -> bytes:
        if len(self._held) < MOST_BYTES:
            self._held += chunk
        return b""

    def end(self) -> bytes:
        if self._told:
            return b""
        self._told = True
        text = _message(self._held) if self._status == 400 else ""
        return Rejection(self._status, text[:MOST_SHOWN] or f"It answered {self._status}.").body()


def _message(body: bytes) -> str:
    """Of {"message": ...} (AWS), {"error": {"message": ...}} (Google and Anthropic), or a list of
    the latter.
    """
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    while isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    message = found.get("message") if isinstance(found, dict) else None
    return message if isinstance(message, str) else ""
