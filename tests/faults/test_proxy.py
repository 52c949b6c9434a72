"""The fault proxy itself, between a plain client and a server that echoes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import HOST, FaultProxy, Toxics

PATIENCE = 20.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echoing() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(echo, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE), FaultProxy(port) as proxy:
            yield proxy


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def said(ends: Ends, text: bytes) -> bytes:
    """What comes back for it, as far as it comes."""
    ends[1].write(text)
    try:
        return await ends[0].readexactly(len(text))
    except asyncio.IncompleteReadError as error:
        return error.partial


async def test_a_clean_line_passes_all_and_ends_when_one_side_does() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        assert await said(ends, b"x" * 200_000) == b"x" * 200_000
        assert proxy.lines == 1
        ends[1].write_eof()
        assert await ends[0].read() == b""


async def test_timeout_holds_back_what_is_said_and_the_end_until_it_is_over() -> None:
    async with echoing() as proxy, connected(proxy) as old:
        assert await said(old, b"before") == b"before"
        await proxy.poison(Toxics(timeout=True))
        old[1].write(b"during")
        async with connected(proxy) as new:  # it is accepted, and silent
            new[1].write(b"hello?")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.gather(old[0].read(1), new[0].read(1))
            await proxy.heal()
            assert await old[0].readexactly(6) == b"during"
            assert await new[0].readexactly(6) == b"hello?"


async def test_timeout_of_one_stream_leaves_the_other() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        await proxy.poison(Toxics(timeout=True), "downstream")
        ends[1].write(b"heard by the server")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ends[0].read(1)
        await proxy.heal()
        assert await ends[0].readexactly(5) == b"heard"


async def test_latency_and_bandwidth_take_their_time() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        for toxics in (Toxics(latency=0.3), Toxics(bandwidth=1000)):
            await proxy.poison(toxics, "upstream")
            began = time.monotonic()
            assert await said(ends, b"y" * 300) == b"y" * 300
            assert time.monotonic() - began >= 0.29


async def test_slicer_gives_single_bytes() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        await proxy.poison(Toxics(slicer=1, latency=0.01), "downstream")
        ends[1].write(b"abc")
        assert [await ends[0].read(100) for _ in range(3)] == [b"a", b"b", b"c"]


async def test_limit_data_closes_after_so_many_bytes_of_each_connection() -> None:
    async with echoing() as proxy, connected(proxy) as first:
        assert await said(first, b"not counted") == b"not counted"
        await proxy.poison(Toxics(limit_data=4), "downstream")
        assert await said(first, b"abcdef") == b"abcd"
        async with connected(proxy) as second:
            assert await said(second, b"ab") == b"ab"
            assert await said(second, b"cdef") == b"cd"


async def test_reset_peer_resets_after_so_many_bytes() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        await proxy.poison(Toxics(reset_peer=0), "upstream")
        ends[1].write(b"abc")
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
        async with connected(proxy) as again:
            await proxy.heal()
            assert await said(again, b"well") == b"well"


async def test_garbage_is_as_long_as_what_was_said() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        await proxy.poison(Toxics(garbage=True), "downstream")
        heard = await said(ends, b"z" * 64)
        assert len(heard) == 64
        assert heard != b"z" * 64


async def test_cut_resets_all_and_refuses_new_ones_until_it_is_healed() -> None:
    async with echoing() as proxy, connected(proxy) as ends:
        await said(ends, b"up")
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, proxy.port)
        await proxy.heal()
        async with connected(proxy) as again:
            assert await said(again, b"again") == b"again"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                await again[0].read(1)


async def test_a_server_that_is_not_there_is_a_reset() -> None:
    async with await asyncio.start_server(lambda _r, _w: None, HOST, 0) as gone:
        port = gone.sockets[0].getsockname()[1]
    async with FaultProxy(port) as proxy, connected(proxy) as ends:
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
