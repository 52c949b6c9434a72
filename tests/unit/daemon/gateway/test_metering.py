"""The meters read the same however an answer is cut into chunks, and fall over nothing."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.demo.messages_api import frames, message_body
from daemon.demo.script import Reply, ToolCall
from daemon.gateway.metering import MAX_BODY, MAX_LINE, BodyMeter, Reading, StreamMeter
from daemon.model import Usage

USAGE: dict[str, Any] = {
    "input_tokens": 11,
    "output_tokens": 22,
    "cache_read_input_tokens": 33,
    "cache_creation_input_tokens": 44,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 40},
    "server_tool_use": {"web_search_requests": 5},
    "speed": "fast",
    "inference_geo": "us",
}
MESSAGE = message_body("claude-x", Reply("héllo wörld €", (ToolCall("T", {"a": "b" * 90}),)), USAGE)
STREAM = b"".join(frame.encode() for frame in frames(MESSAGE))


def read(*chunks: bytes) -> Reading:
    meter = StreamMeter()
    for chunk in chunks:
        meter.feed(chunk)
    meter.end()
    return meter.reading


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=40), st.sampled_from([b"\n", b"\r\n"]))
def test_chunks_may_be_cut_anywhere(cuts: list[int], ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*pieces) == read(stream)


def test_all_that_is_priced_is_read() -> None:
    reading = read(STREAM)
    metered = reading.metered()
    assert (reading.seen, reading.final, reading.finished, reading.error) == (True, True, True, "")
    assert metered.model == "claude-x"
    assert metered.usage == Usage(11, 22, 33, 44)
    assert (metered.cache_write_1h, metered.web_searches) == (40, 5)
    assert metered.fast
    assert metered.in_us


def test_a_body_reads_as_its_stream_does() -> None:
    meter = BodyMeter()
    body = json.dumps(MESSAGE).encode()
    meter.feed(body[:50])
    meter.feed(body[50:])
    meter.end()
    assert meter.reading.metered() == read(STREAM).metered()
    assert meter.reading.final


def test_a_stream_without_event_lines_is_read_by_its_data() -> None:
    lines = [line for line in STREAM.split(b"\n") if not line.startswith(b"event:")]
    assert read(b"\n".join(lines)).metered() == read(STREAM).metered()


def test_later_counts_replace_earlier_ones_and_gaps_keep_them() -> None:
    start = event("message_start", message={"model": "m", "usage": {**USAGE, "output_tokens": 1}})
    reading = read(start, event("message_delta", usage={"output_tokens": 500}))
    assert reading.metered().usage == Usage(11, 500, 33, 44)


def test_a_cut_stream_has_its_prompt_and_about_the_text_that_passed() -> None:
    start = event("message_start", message={"model": "m", "usage": {**USAGE, "output_tokens": 1}})
    delta = {"type": "text_delta", "text": "x" * 40}
    reading = read(start, *[event("content_block_delta", index=0, delta=delta)] * 10)
    assert not reading.final
    assert reading.metered().usage == Usage(11, 100, 33, 44)


def test_an_error_within_a_stream_is_seen() -> None:
    reading = read(event("error", error={"type": "overloaded_error", "message": "busy"}))
    assert reading.error == "overloaded_error"
    assert read(event("error", error="odd")).error == "error"


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"event: message_start\ndata: {}\n\n",
        b"event: message_start\ndata: \xff\xfe\n\n",
        b"event: message_delta\ndata: " + b'{"type": "message_delta", "usage": [1]}\n\n',
        event("message_start", message=[1]),
        event("message_start", message={"usage": {"input_tokens": -5}}),
        event("message_delta", usage={"input_tokens": "7", "cache_creation": 3}),
        event("content_block_delta", delta=7),
        b"\n\n\n:\nid: 4\nretry: x\ndata\n",
    ],
)
def test_odd_events_do_no_harm(odd: bytes) -> None:
    assert read(odd, STREAM).metered() == read(STREAM).metered()


@given(st.binary(max_size=300))
def test_any_bytes_can_be_metered(data: bytes) -> None:
    read(data)
    meter = BodyMeter()
    meter.feed(data)
    meter.end()
    assert meter.reading.metered().usage.input >= 0


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    meter = StreamMeter()
    for _ in range(40):
        meter.feed(b"x" * 65_536)
    assert sum(len(part) for part in meter._line) <= MAX_LINE + 65_536
    meter.feed(b"\n\n" + STREAM)
    assert meter.reading.finished


def test_a_body_that_is_too_large_is_estimated_from_its_size() -> None:
    meter = BodyMeter()
    for _ in range(9):
        meter.feed(b" " * (MAX_BODY // 8))
    meter.end()
    assert not meter.reading.final
    assert meter.reading.metered().usage.output == MAX_BODY * 9 // 8 // 4
