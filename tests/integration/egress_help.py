"""An egress proxy before a loopback server that passes for a host outside."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from daemon.clock import SystemClock
from daemon.destinations import Destination
from daemon.egress import EgressProxy
from daemon.egress.dialling import Dialler
from daemon.errors import LedgerError
from daemon.metrics import Metrics
from daemon.model import Audited, Trust
from tests.integration.gateway_help import Rig

SECONDS = 20.0
HOST = "outside.example"
INNER = "inner.example"


class TwoNames:
    """The port `Resolver`: one name leads to loopback as if it lay outside, one to a neighbour."""

    async def addresses(self, wanted: Destination) -> Sequence[str]:
        match wanted.host:
            case "outside.example":
                return ["127.0.0.1"]
            case "inner.example":
                return ["10.0.0.1"]
        raise OSError("no such name")


def loopback_is_outside(there: str, here: str | None = None) -> bool:
    del here
    return there == "127.0.0.1"


@dataclass
class Audit:
    """What is recorded. `failing` names what cannot be; `gate`, while set, holds all back, and
    `held` says that something is.
    """

    entries: list[Audited] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    gate: asyncio.Event | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def record(self, entry: Audited) -> None:
        if entry.what in self.failing:
            raise LedgerError("the disk is full")
        if self.gate is not None:
            self.held.set()
            await self.gate.wait()
        async with self._news:
            self.entries.append(entry)
            self._news.notify_all()

    async def until(self, what: str, count: int = 1) -> list[Audited]:
        """All entries of a kind, once there are so many."""

        def found() -> list[Audited]:
            return [entry for entry in self.entries if entry.what == what]

        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(found()) >= count)
        return found()


@dataclass
class Outside:
    """A server: answers each line with "heard: LINE", and ends at the client's end."""

    port: int = 0
    conversations: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations += 1
        try:
            while line := await reader.readline():
                writer.write(b"heard: " + line)
                await writer.drain()
            writer.write(b"farewell\n")
        except OSError:
            pass  # cut off
        finally:
            writer.close()


@dataclass
class Stand:
    proxy: EgressProxy
    outside: Outside
    audit: Audit
    metrics: Metrics
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def count(self, verdict: str) -> float:
        labels = {"outcome": verdict}
        found = self.metrics.registry.get_sample_value("postroom_egress_connections_total", labels)
        return found or 0.0

    async def ask(
        self, token: str, target: str = "", *, room: int | None = None
    ) -> tuple[str, Tunnel]:
        """The status line of an answer, and the way behind it; `room` is how many bytes the kernel
        keeps of what the client does not read.
        """
        client = socket.socket()
        if room is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.proxy.port))
        reader, writer = await asyncio.open_connection(sock=client)
        self._writers.append(writer)
        shown = base64.b64encode(f"postroom:{token}".encode()).decode()
        target = target or f"{HOST}:{self.outside.port}"
        writer.write(
            f"CONNECT {target} HTTP/1.1\r\nProxy-Authorization: Basic {shown}\r\n\r\n".encode()
        )
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        return head.decode().partition("\r\n")[0], Tunnel(reader, writer)

    async def status(self, token: str, target: str = "") -> int:
        """Of an answer; the connection is closed."""
        line, tunnel = await self.ask(token, target)
        tunnel.writer.close()
        return int(line.split(" ")[1])

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@dataclass
class Tunnel:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, line: bytes) -> bytes:
        """One line there, and one back; b"" at the end."""
        self.writer.write(line)
        async with asyncio.timeout(SECONDS):
            return await self.reader.readline()

    async def rest(self) -> bytes:
        """All to the end; b"" where it was cut off."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def proxied(rig: Rig, more: Sequence[str] = ()) -> AsyncIterator[Stand]:
    """Members may reach the server by its name, and `more`; nobody else may reach anything."""
    outside, audit, metrics = Outside(), Audit(), Metrics()
    server = await asyncio.start_server(outside.serve, "127.0.0.1")
    outside.port = server.sockets[0].getsockname()[1]
    entries = (f"{HOST}:{outside.port}", *more)
    proxy = EgressProxy(
        turns=rig.gateway,
        lists=lambda trust: entries if trust is Trust.MEMBER else (),
        dialler=Dialler(TwoNames(), loopback_is_outside),
        record=audit.record,
        clock=SystemClock(),
        metrics=metrics,
    )
    stand = Stand(proxy, outside, audit, metrics)
    await proxy.start()
    try:
        yield stand
    finally:
        stand.close()
        await proxy.stop()
        server.close()
