"""From a name to a connection: resolved once, and connected to an address that was looked at."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
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


LookUp = Callable[[Destination], Sequence[str]]


def look_up(wanted: Destination) -> Sequence[str]:
    """Ask the system. Raises OSError. Blocking: it may take half a minute."""
    # With the dot it is whole: no domain that the system searches is put behind it.
    found = socket.getaddrinfo(f"{wanted.host}.", wanted.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class SystemResolver:
    """The system's, in threads of its own, a few at once: a name server that does not answer holds
    neither anybody else's threads nor the daemon's end, as those of an executor would.
    """

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._free = asyncio.Semaphore(LOOKUPS)

    async def addresses(self, wanted: Destination) -> Sequence[str]:
        await self._free.acquire()  # until the thread ends, whoever waits for it
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def ask() -> None:
            found: Sequence[str] | OSError
            try:
                found = self._look_up(wanted)
            except (OSError, UnicodeError) as error:
                found = OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(self._take, answer, found)

        try:
            threading.Thread(target=ask, name="egress-lookup", daemon=True).start()
        except RuntimeError as error:  # the machine gives no more threads
            self._free.release()
            raise OSError(str(error)) from error
        return await answer

    def _take(self, answer: asyncio.Future[Sequence[str]], found: Sequence[str] | OSError) -> None:
        self._free.release()
        if answer.done():  # who asked did not wait so long
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)


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
        except OSError:
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
