"""A TCP proxy that makes a line go wrong. It stands between the daemon and one of its servers.

    async with FaultProxy(server_port) as proxy:
        ...                                   # point the daemon at proxy.port
        proxy.poison(Toxics(timeout=True))    # half-open: connections stand, nothing comes through
        proxy.heal()

The words are Toxiproxy's (github.com/Shopify/toxiproxy, "Toxics"): `downstream` is what the server
says, `upstream` what the daemon says. `garbage` and `cut` are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65536

Stream = Literal["downstream", "upstream"]


@dataclass(frozen=True, slots=True)
class Toxics:
    """What happens to the bytes of one direction, on connections of before and of later.

    timeout      nothing comes through, not even the end of a connection; what was held back goes on
                 its way once it is over
    latency      seconds that each piece is late
    bandwidth    bytes a second; 0: no limit
    slicer       bytes in the largest piece; 0: as they came
    limit_data   the connection is closed after so many bytes
    reset_peer   the same with a reset (RST) instead of a good end
    garbage      noise in the place of what was said, byte for byte

    The bytes of a limit are counted on each connection from when it was set.
    """

    timeout: bool = False
    latency: float = 0.0
    bandwidth: int = 0
    slicer: int = 0
    limit_data: int | None = None
    reset_peer: int | None = None
    garbage: bool = False


CLEAN = Toxics()


class FaultProxy:
    """Listens on `port` of loopback and passes on to `upstream` there, port by port."""

    def __init__(self, upstream: int, *, seed: int = 1) -> None:
        self.port = 0
        self.opened = 0  # connections since the start
        self._upstream = upstream
        self._toxics: dict[Stream, Toxics] = {"downstream": CLEAN, "upstream": CLEAN}
        self._changed = asyncio.Condition()
        self._noise = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    # --- what goes wrong

    async def poison(self, toxics: Toxics, stream: Stream | None = None) -> None:
        """From now on; `stream` None: both directions."""
        for each in ("downstream", "upstream") if stream is None else (stream,):
            self._toxics[each] = toxics
        async with self._changed:
            self._changed.notify_all()

    async def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def reset(self) -> None:
        """Reset (RST) every connection there is; new ones are welcome."""
        for line in self._lines:
            line.reset()

    async def heal(self) -> None:
        """All is well again, on the connections that are left too."""
        if self._server is None:
            await self._listen()
        await self.poison(CLEAN)

    @property
    def lines(self) -> int:
        """How many connections stand."""
        return len(self._lines)

    # --- one connection

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            _reset(writer)
            return
        line = _Line(writer, far[1])
        self._lines.add(line)
        ways = (
            asyncio.create_task(self._pump("upstream", reader, line.far, line)),
            asyncio.create_task(self._pump("downstream", far[0], line.near, line)),
        )
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            self._lines.discard(line)
            line.close()

    async def _pump(
        self,
        stream: Stream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: _Line,
    ) -> None:
        """One direction, until its end has been passed on."""
        toxics, passed = CLEAN, 0
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                while chunk:
                    await self._until_passable(stream)
                    if self._toxics[stream] is not toxics:
                        toxics, passed = self._toxics[stream], 0
                    size = toxics.slicer or len(chunk)
                    piece, chunk = chunk[:size], chunk[size:]
                    await self._pass(piece, toxics, passed, writer, line)
                    passed += len(piece)
            await self._until_passable(stream)
        except (ConnectionError, _Over):
            line.reset()
            return
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _until_passable(self, stream: Stream) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._toxics[stream].timeout)

    async def _pass(
        self,
        piece: bytes,
        toxics: Toxics,
        passed: int,
        writer: asyncio.StreamWriter,
        line: _Line,
    ) -> None:
        """Raises _Over where a limit ends the connection, once what fits has gone out."""
        wait = toxics.latency + (len(piece) / toxics.bandwidth if toxics.bandwidth else 0.0)
        if wait:
            await asyncio.sleep(wait)
        if toxics.garbage:
            piece = self._noise.randbytes(len(piece))
        closing, resetting = toxics.limit_data, toxics.reset_peer
        limits = [each for each in (closing, resetting) if each is not None]
        room = min(limits, default=passed + len(piece) + 1) - passed
        if room > 0:
            writer.write(piece[:room])
            await writer.drain()
        if room > len(piece):
            return
        if closing is not None and closing == min(limits):
            line.close()
        raise _Over


class _Over(Exception):
    """A limit has ended the connection."""


class _Line:
    """Both ends of one connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far

    def reset(self) -> None:
        _reset(self.near)
        _reset(self.far)

    def close(self) -> None:
        self.near.close()
        self.far.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Hang up with an RST, and without what is still unsent; nothing where it is closed already."""
    if writer.is_closing():
        return
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
