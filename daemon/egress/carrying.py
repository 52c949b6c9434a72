"""Passes the bytes of one connection both ways, counts them, and ends it when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon.egress.dialling import Line
from daemon.egress.outing import Outing

IDLE_SECONDS = 120.0  # without a byte either way
MOST_SENT = 64 << 20  # bytes, by all connections of a turn
MOST_RECEIVED = 2 << 30
CHUNK = 1 << 16


class Ended(StrEnum):
    """How a connection came to its end: a fact of the audit."""

    CLOSED = "closed"  # by its two ends
    BROKEN = "broken"  # by one of them, in the middle
    IDLE = "idle"
    SPENT = "spent"  # more bytes than a turn may have
    CUT = "cut"  # the turn is over, or the proxy stops


@dataclass(slots=True)
class Carriage:
    """How far a connection has come, in bytes. Until its end is known it counts as cut: whoever
    reads this after a cancellation finds what is true.
    """

    sent: int = 0
    received: int = 0
    ended: Ended = Ended.CUT


async def carry(client: Line, outside: Line, outing: Outing, carriage: Carriage) -> None:
    """Pass all bytes on, until both ends have ended or one of the limits is met."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(IDLE_SECONDS) as patience:

            def spend(sent: int, received: int) -> bool:
                """Count bytes. False: these were too many."""
                if not patience.expired():  # what comes at that very moment comes too late
                    patience.reschedule(loop.time() + IDLE_SECONDS)
                outing.sent += sent
                outing.received += received
                carriage.sent += sent
                carriage.received += received
                return outing.sent <= MOST_SENT and outing.received <= MOST_RECEIVED

            carriage.ended = await _both(
                _pass(client, outside, lambda size: spend(size, 0)),
                _pass(outside, client, lambda size: spend(0, size)),
            )
    except TimeoutError:
        carriage.ended = Ended.IDLE


async def _both(*ways: Coroutine[Any, Any, Ended]) -> Ended:
    """Until both ways have come to their end, or one to a bad one."""
    passing = {asyncio.create_task(way) for way in ways}
    try:
        while passing:
            done, passing = await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                if (how := way.result()) is not Ended.CLOSED:
                    return how
        return Ended.CLOSED
    finally:
        for way in passing:
            way.cancel()
        if passing:
            await asyncio.wait(passing)


async def _pass(source: Line, sink: Line, spend: Callable[[int], bool]) -> Ended:
    """One way. At its end the sink is told so; what comes the other way still may."""
    try:
        while chunk := await source.reader.read(CHUNK):
            if not spend(len(chunk)):
                return Ended.SPENT
            sink.writer.write(chunk)
            await sink.writer.drain()
        sink.writer.write_eof()
    except OSError:
        return Ended.BROKEN
    return Ended.CLOSED
