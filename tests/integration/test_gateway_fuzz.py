"""Whatever is sent to the gateway, and however an answer is cut into pieces: nothing leads anywhere
else, carries another key, or breaks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence

from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.messages_api import frames, message_body
from daemon.demo.script import Reply
from tests.integration.gateway_help import KEY, MODEL, ask, rig, turn
from tests.integration.test_gateway_streams import upstream

FEW = settings(max_examples=25)
USAGE = {"input_tokens": 7, "output_tokens": 9}
STREAM = b"".join(
    frame.encode() for frame in frames(message_body(MODEL, Reply("grüße € " * 9), USAGE))
)

LINES = st.sampled_from(
    [
        b"POST /v1/messages HTTP/1.1",
        b"POST /v1/files HTTP/1.1",
        b"GET / HTTP/1.1",
        b"POST /v1/messages HTTP/1.0",
        b"CONNECT x:443 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"POST http://evil/v1/messages HTTP/1.1",
    ]
)
NAMES = st.sampled_from(
    [
        b"host",
        b"x-api-key",
        b"authorization",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"anthropic-beta",
        b"connection",
        b"expect",
        b"upgrade",
        b"cookie",
        b"\xff",
        b"",
    ]
)
VALUES = st.binary(max_size=20) | st.sampled_from(
    [b"chunked", b"TOKEN", b"Bearer TOKEN", b"0", b"5", b"-1", b"gzip", b"close", b"100-continue"]
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
REQUESTS = st.tuples(LINES, HEADERS, st.binary(max_size=40))


@FEW
@given(st.lists(REQUESTS | st.binary(max_size=200), min_size=1, max_size=8))
async def test_no_bytes_break_it_or_reach_the_model(
    requests: Sequence[tuple[bytes, list[tuple[bytes, bytes]], bytes] | bytes],
) -> None:
    async with rig() as world:
        token = world.token(turn())
        for request in requests:
            await send(world.gateway.port, written(request, token.encode()))
        assert world.model.journal == []
        assert (await world.say(token))[0] == 200


def written(request: tuple[bytes, list[tuple[bytes, bytes]], bytes] | bytes, token: bytes) -> bytes:
    if isinstance(request, bytes):
        return request
    line, headers, body = request
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return (line + b"\r\n" + head + b"\r\n" + body).replace(b"TOKEN", token)


async def send(port: int, data: bytes) -> None:
    """Send it and read what comes, for a moment or to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(1):
            await reader.read()
    writer.close()


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x-api-key", "authorization", "cookie", "anthropic-beta", "x-app"])
            | st.from_regex(r"\A[a-z][a-z-]{0,20}\Z"),
            st.from_regex(r"\A[!-~]{1,30}\Z"),
        ),
        max_size=6,
    )
)
async def test_no_header_carries_another_key_to_the_model(headers: list[tuple[str, str]]) -> None:
    async with rig() as world:
        token = world.token(turn())
        kept = {name: value for name, value in headers if name not in UNSENT}
        async with world.post(token, headers={**kept, "x-api-key": token}) as answer:
            assert answer.status in {200, 400, 403, 415}
            await answer.read()
        for entry in world.model.journal:
            assert entry.headers["x-api-key"] == KEY
            assert "authorization" not in entry.headers
            assert "cookie" not in entry.headers
            assert token not in json.dumps(dict(entry.headers))


UNSENT = {"content-length", "transfer-encoding", "host", "connection", "expect", "te"}


@FEW
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
async def test_a_stream_passes_and_is_metered_however_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for begin, end in itertools.pairwise(edges):
            await response.write(STREAM[begin:end])
        await response.write_eof()
        return response

    async with upstream(answer) as url, rig(url=url) as world:
        token = world.token(turn())
        assert await world.say(token, ask()) == (200, STREAM)
        await world.gateway.close_turn(token)
        (call,) = world.book.calls
        assert (call.usage.input, call.usage.output) == (7, 9)
