"""What one client may take of the daemon's own door: time, size, number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from daemon import serving
from daemon.serving import cut_off

LONG = 32 * 2**20  # bytes: more than the kernel takes on behalf of a client that reads nothing


@asynccontextmanager
async def site(asked: list[web.Request] | None = None) -> AsyncIterator[int]:
    """Its port; `asked` gets each request."""

    async def answer(request: web.Request) -> web.Response:
        cut_off(request)
        if asked is not None:
            asked.append(request)
        response = web.Response(text="x" * int(request.query.get("size", "2")))
        response.force_close()
        return response

    app = web.Application(client_max_size=serving.MAX_BODY_BYTES)
    app.router.add_route("*", "/", answer)
    async with serving.serving(app, "127.0.0.1", 0) as port:
        yield port


async def send(port: int, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    return reader, writer


async def said(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection is closed by the other side."""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
    return b""


async def test_a_head_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    async with site() as port:
        reader, writer = await send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await said(reader) == b""
        dripping.cancel()
        writer.close()


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    async with site() as port:
        reader, writer = await send(port)
        assert await said(reader) == b""
        writer.close()


async def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_SECONDS", 0.2)
    async with site() as port:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
        reader, writer = await send(port, head)
        assert (await said(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_an_answer_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ANSWER_SECONDS", 0.2)
    asked: list[web.Request] = []
    async with site(asked) as port:
        reader, writer = await send(port, b"GET /?size=%d HTTP/1.1\r\nHost: x\r\n\r\n" % LONG)
        async with asyncio.timeout(60):
            while not asked or (asked[0].transport and not asked[0].transport.is_closing()):
                await asyncio.sleep(0.01)
        assert len(await said(reader)) < LONG
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_is_too_large_or_no_http_is_refused_without_a_word_in_the_log(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send it, as often as they like."""
    async with site() as port:
        reader, writer = await send(port, head)
        assert (await said(reader))[:12] in {b"HTTP/1.1 400", b"HTTP/1.0 400", b""}
        writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_more_connections_than_there_may_be_are_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    async with site() as port:
        held = [await send(port) for _ in range(2)]
        answer = b""
        async with asyncio.timeout(60):
            while not answer.startswith(b"HTTP/1.1 503"):  # the two are counted a moment later
                reader, writer = await send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await said(reader)
                writer.close()
            for _, writer in held:
                writer.close()
            while not answer.startswith(b"HTTP/1.1 200"):
                reader, writer = await send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await said(reader)
                writer.close()
