"""Reads what a call used out of a copy of its answer, as it passes. Pure; never delays a byte.

Shapes: https://platform.claude.com/docs/en/build-with-claude/streaming and .../api/messages.
`message_start` has the usage of the prompt, `message_delta` the cumulative rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from daemon.gateway.prices import Metered
from daemon.model import Usage

BYTES_PER_TOKEN = 4
"""For what no usage says: a cut answer, a prompt whose answer never came."""
MAX_LINE = 1 << 20
MAX_BODY = 8 << 20

_SKIPPED = {b"ping", b"content_block_start", b"content_block_stop"}
_CONTENT = ("text", "thinking", "partial_json", "signature")


@dataclass(slots=True)
class Reading:
    """What has been seen so far of one call's answer."""

    model: str = ""
    seen: bool = False
    """Some usage has been seen."""
    final: bool = False
    """The final count of output tokens has been seen."""
    finished: bool = False
    """The answer is whole, though its connection may still be open."""
    error: str = ""
    """The type of an error that came within a stream."""
    streamed: int = 0
    """Length of the content so far."""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0
    fast: bool = False
    in_us: bool = False

    def take(self, usage: object) -> None:
        """Take over a `usage` object; counts are cumulative, so later ones replace earlier."""
        if not isinstance(usage, Mapping):
            return
        self.seen = True
        self.input = _count(usage, "input_tokens", self.input)
        self.output = _count(usage, "output_tokens", self.output)
        self.cache_read = _count(usage, "cache_read_input_tokens", self.cache_read)
        self.cache_write = _count(usage, "cache_creation_input_tokens", self.cache_write)
        written = usage.get("cache_creation")
        if isinstance(written, Mapping):
            self.cache_write_1h = _count(written, "ephemeral_1h_input_tokens", self.cache_write_1h)
        tools = usage.get("server_tool_use")
        if isinstance(tools, Mapping):
            self.web_searches = _count(tools, "web_search_requests", self.web_searches)
        self.fast = self.fast or usage.get("speed") == "fast"
        self.in_us = self.in_us or usage.get("inference_geo") == "us"

    def take_message(self, message: object) -> None:
        """Take over a `message` object: its model and its usage."""
        if isinstance(message, Mapping):
            self.model = str(message.get("model") or self.model)
            self.take(message.get("usage"))

    def metered(self) -> Metered:
        """Usage as far as seen. The output of a cut stream is estimated from its text: its final
        count never came, and stopping early must not make tokens free.
        """
        output = self.output
        if not self.final:
            output = max(output, self.streamed // BYTES_PER_TOKEN)
        usage = Usage(self.input, output, self.cache_read, self.cache_write)
        return Metered(
            self.model, usage, self.cache_write_1h, self.web_searches, self.fast, self.in_us
        )


class Meter(Protocol):
    reading: Reading

    def feed(self, chunk: bytes) -> None: ...

    def end(self) -> None:
        """The answer ended of itself."""
        ...


class StreamMeter:
    """Reads server-sent events from chunks that may be cut anywhere. Lines end in LF or CRLF."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._line: list[bytes] = []  # the parts of a line whose end has not come
        self._held = 0
        self._event = b""

    def feed(self, chunk: bytes) -> None:
        if b"\n" not in chunk:
            self._hold(chunk)
            return
        lines = b"".join((*self._line, chunk)).split(b"\n")
        self._line, self._held = [], 0
        self._hold(lines.pop())
        for line in lines:
            self._take_line(line)

    def end(self) -> None:
        """Nothing: a stream says itself when its message is whole."""

    def _hold(self, part: bytes) -> None:
        if self._held > MAX_LINE:  # no line that is read here is that long: count it only
            self.reading.streamed += len(part)
        elif part:
            self._line.append(part)
            self._held += len(part)

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            if self._event not in _SKIPPED:
                self._take_data(line[5:])
        elif line.startswith(b"event:"):
            self._event = line[6:].strip()
        elif not line.strip():
            self._event = b""

    def _take_data(self, text: bytes) -> None:
        data = _parse(text)
        if not isinstance(data, Mapping):
            return
        reading, kind = self.reading, data.get("type")
        if kind == "content_block_delta":
            reading.streamed += _length(data.get("delta"))
        elif kind == "message_start":
            reading.take_message(data.get("message"))
        elif kind == "message_delta":
            reading.take(data.get("usage"))
            reading.final = reading.final or isinstance(data.get("usage"), Mapping)
        elif kind == "message_stop":
            reading.finished = True
        elif kind == "error":
            error = data.get("error")
            reading.error = str(error.get("type")) if isinstance(error, Mapping) else "error"


class BodyMeter:
    """Keeps a copy of a JSON answer, up to MAX_BODY, and reads it when it is whole."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self.reading.streamed = self._size
        if self._size <= MAX_BODY:
            self._parts.append(chunk)

    def end(self) -> None:
        self.reading.finished = True
        if self._size <= MAX_BODY:
            self.reading.take_message(_parse(b"".join(self._parts)))
            self.reading.final = self.reading.seen
        self._parts.clear()


def _parse(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _length(delta: object) -> int:
    """How much content a delta carries. The frame tells nothing: the API pads it with spaces."""
    if not isinstance(delta, Mapping):
        return 0
    return sum(len(part) for name in _CONTENT if isinstance(part := delta.get(name), str))


def _count(values: Mapping[str, object], key: str, before: int) -> int:
    value = values.get(key)
    return value if isinstance(value, int) and value >= 0 else before
