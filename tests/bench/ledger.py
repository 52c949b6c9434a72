"""Registering through the real ledger, beside plain SQLite commits: `python -m tests.bench ledger`.

Both sides write to the same disk with `synchronous=FULL`, in turns. The plain side inserts one row
into the same table and commits, once a message; ours also judges trust, opens the conversation and
answers its caller in the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.clock import SystemClock
from daemon.ledger import open_ledger
from daemon.ledger.migrations import migrate
from daemon.model import ConversationId, Message, Priority, Sender, Trust
from daemon.ports import Ledger
from tests.bench.rows import Row, at_least, at_most, compare

BURST = 500  # Slack events that come at once
BURSTS = 10
ALONE = 300
SUSTAINED, CALLERS = 10_000, 64
TEXT = "x" * 700
BESIDE = "raw SQLite commits"

Register = Callable[[int], Awaitable[None]]


async def ledger(directory: Path, _model: str) -> list[Row]:
    numbers = itertools.count()
    opened = await open_ledger(directory / "ours", SystemClock())
    try:
        with plain(directory / "plain.db") as raw:
            return [
                *await _alone(opened, raw, numbers),
                *await _bursts(opened, raw, numbers),
                await _sustained(opened, raw, numbers),
            ]
    finally:
        await opened.close()


async def _alone(ours: Ledger, raw: Callable[[int], None], numbers: Iterator[int]) -> list[Row]:
    """One message while nothing else is written."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(ALONE):
        message = a_message(next(numbers))
        began = time.perf_counter()
        await ours.register(message)
        mine.append((time.perf_counter() - began) * 1000)
        number = next(numbers)
        began = time.perf_counter()
        raw(number)
        theirs.append((time.perf_counter() - began) * 1000)
    return compare("registering one message", BESIDE, mine, theirs)


async def _bursts(ours: Ledger, raw: Callable[[int], None], numbers: Iterator[int]) -> list[Row]:
    """Each message's wait from the burst's arrival until it may be acknowledged."""
    mine: list[float] = []
    theirs: list[float] = []

    async def one(message: Message, began: float) -> None:
        await ours.register(message)
        mine.append((time.perf_counter() - began) * 1000)

    for _ in range(BURSTS):
        messages = [a_message(next(numbers)) for _ in range(BURST)]
        began = time.perf_counter()
        await asyncio.gather(*(one(message, began) for message in messages))
        began = time.perf_counter()
        for _ in range(BURST):
            raw(next(numbers))
            theirs.append((time.perf_counter() - began) * 1000)
    work = f"registering one of a burst of {BURST}"
    return compare(work, BESIDE, mine, theirs, p99=at_most(50))


async def _sustained(ours: Ledger, raw: Callable[[int], None], numbers: Iterator[int]) -> Row:
    messages = iter([a_message(next(numbers)) for _ in range(SUSTAINED)])

    async def caller() -> None:
        for message in messages:
            await ours.register(message)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    mine = SUSTAINED / (time.perf_counter() - began)
    count = SUSTAINED // 5
    began = time.perf_counter()
    for _ in range(count):
        raw(next(numbers))
    theirs = count / (time.perf_counter() - began)
    work = f"messages registered a second, {CALLERS} callers"
    return Row(work, BESIDE, mine, theirs, "/s", count, at_least(5000))


def a_message(number: int) -> Message:
    """A Slack message of its own thread, keyed twice as they are."""
    thread = f"slack:T1:C1:{number}"
    return Message(
        connector="slack",
        outside_id=f"T1:C1:{number}",
        alternate_id=f"Ev{number}",
        conversation=ConversationId(thread),
        sender=Sender(f"slack:T1:U{number % 50}", "Ada", Trust.MEMBER),
        text=TEXT,
        sent_at=time.time(),
        priority=Priority.CHAT,
        target={"channel": "C1", "thread_ts": str(number)},
    )


@contextmanager
def plain(path: Path) -> Iterator[Callable[[int], None]]:
    """Insert one row and commit, on disk when it returns."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    migrate(connection)

    def insert(number: int) -> None:
        connection.execute("begin immediate")
        connection.execute(
            "insert into inbox (message, connector, outside_id, alternate_id, state, addressed, "
            "registered_at, conversation, body) values (?, 'slack', ?, ?, 'waiting', 1, ?, ?, ?)",
            (f"msg-{number}", f"T1:C1:{number}", f"Ev{number}", 0.0, f"t{number}", TEXT),
        )
        connection.execute("commit")

    yield insert
    connection.close()
