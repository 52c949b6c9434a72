"""From a name to a connection: resolved once, and connected to an address that was looked at."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from daemon.destinations import Destination
from daemon.egress.addresses import is_outside
from daemon.egress.verdicts import Refused, Verdict

DIAL_SECONDS = 15.0  # for the name and the connection together
ADDRESSES = 4  # tried of one name
ADDRESS_SECONDS = 5.0  # for each
LOOKUPS = 8  # at once


@dataclass(frozen=True, slots=True)
class Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def abort(self) -> None:
        self.writer.transport.abort()


class Resolver(Protocol):
    """Finds addresses."""

    async def addresses(self, wanted: Destination) -> Sequence[str]:
        """Those of a host, in the order to try them. Raises OSError."""
        ...


class Border(Protocol):
    """Tells what lies outside: see `addresses.is_outside`."""

    def __call__(self, there: str, here: str | None = None) -> bool: ...


class SystemResolver:
    """The system's, in threads of its own: a name server that does not answer holds only these."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="egress-lookup")

    async def addresses(self, wanted: Destination) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, wanted)
        return list(dict.fromkeys(found))


def _look_up(wanted: Destination) -> list[str]:
    # With the dot it is whole: no domain that the system searches is put behind it.
    found = socket.getaddrinfo(f"{wanted.host}.", wanted.port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Dialler:
    """Connects to hosts outside."""

    def __init__(self, resolver: Resolver, outside: Border = is_outside) -> None:
        self._resolver, self._outside = resolver, outside

    @contextlib.asynccontextmanager
    async def dial(self, wanted: Destination) -> AsyncIterator[Line]:
        """Within it there is a connection. Raises Refused before."""
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                line = await self._connect(wanted)
        except TimeoutError:
            raise Refused(Verdict.UNREACHABLE) from None
        try:
            yield line
        finally:
            line.abort()

    async def _connect(self, wanted: Destination) -> Line:
        try:
            found = await self._resolver.addresses(wanted)
        except (OSError, UnicodeError):
            raise Refused(Verdict.UNRESOLVED) from None
        there = [address for address in found if self._outside(address)]
        if not there:
            raise Refused(Verdict.INSIDE if found else Verdict.UNRESOLVED)
        for address in there[:ADDRESSES]:
            with contextlib.suppress(OSError):
                return self._looked_at(await _connected(address, wanted.port))
        raise Refused(Verdict.UNREACHABLE)

    def _looked_at(self, line: Line) -> Line:
        """The connection once more, by its two ends: an address of the machine's own is no nearer
        by its number, and what listens there may be for this machine alone.
        """
        there, here = (line.writer.get_extra_info(end) for end in ("peername", "sockname"))
        if there and here and self._outside(there[0], here[0]):
            return line
        line.abort()
        raise Refused(Verdict.INSIDE if there and here else Verdict.UNREACHABLE)


async def _connected(address: str, port: int) -> Line:
    """Raises OSError. An address is not resolved again."""
    async with asyncio.timeout(ADDRESS_SECONDS):
        return Line(*await asyncio.open_connection(address, port))
