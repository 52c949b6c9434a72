"""The one writer: group commit, where each job fails alone and no caller is left hanging."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import LedgerError
from daemon.ledger.opening import connect_for_writing
from daemon.ledger.writer import MAX_BATCH, Writer


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    connection = connect_for_writing(tmp_path / "w.db")
    connection.execute("create table item (name text unique not null) strict")
    writer = Writer(connection)
    yield writer
    await writer.close()


def add(name: str) -> Callable[[sqlite3.Connection], str]:
    """A job that adds an item and returns its name."""

    def job(connection: sqlite3.Connection) -> str:
        connection.execute("insert into item values (?)", (name,))
        return name

    return job


def stored(tmp_path: Path) -> list[str]:
    connection = sqlite3.connect(tmp_path / "w.db")
    names = [row[0] for row in connection.execute("select name from item order by rowid")]
    connection.close()
    return names


def held(writer: Writer) -> threading.Event:
    """Keep the thread busy until the event is set, so that what is submitted queues up."""
    go = threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        assert go.wait(30)

    writer.submit(wait)
    return go


async def test_what_queued_up_is_one_commit_in_order(writer: Writer, tmp_path: Path) -> None:
    go = held(writer)
    waiting = [writer.submit(add(str(n))) for n in range(50)]
    go.set()
    assert await asyncio.gather(*waiting) == [str(n) for n in range(50)]
    assert stored(tmp_path) == [str(n) for n in range(50)]
    assert writer.commits <= 2, "the one that was held, and one for all"


async def test_a_batch_is_bounded(writer: Writer) -> None:
    go = held(writer)
    waiting = [writer.submit(add(str(n))) for n in range(2 * MAX_BATCH)]
    go.set()
    await asyncio.gather(*waiting)
    assert writer.commits >= 3


async def test_a_job_that_fails_fails_alone(writer: Writer, tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        add("half")(connection)
        raise ZeroDivisionError

    go = held(writer)
    waiting: list[asyncio.Future[Any]] = [
        writer.submit(add("before")),
        writer.submit(broken),
        writer.submit(add("before")),
        writer.submit(add("after")),
    ]
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[1], ZeroDivisionError)
    assert isinstance(results[2], LedgerError), "SQLite's words in ours"
    assert [results[0], results[3]] == ["before", "after"]
    assert stored(tmp_path) == ["before", "after"]


async def test_a_transaction_that_fails_is_everybodys_failure(
    writer: Writer, tmp_path: Path
) -> None:
    """As with a full disk, where SQLite has rolled all of it back by itself."""

    def full(connection: sqlite3.Connection) -> None:
        connection.execute("rollback")
        raise sqlite3.OperationalError("database or disk is full")

    go = held(writer)
    waiting: list[asyncio.Future[Any]] = [
        writer.submit(add("one")),
        writer.submit(full),
        writer.submit(add("two")),
    ]
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, LedgerError) for result in results)
    assert stored(tmp_path) == []
    await writer.submit(add("later"))
    assert stored(tmp_path) == ["later"], "it works on"


async def test_a_lock_that_is_not_let_go_fails_the_callers_and_not_the_thread(
    writer: Writer, tmp_path: Path
) -> None:
    await writer.submit(lambda c: c.execute("pragma busy_timeout = 50").fetchall())
    other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(LedgerError, match="locked"):
        await writer.submit(add("one"))
    other.execute("rollback")
    other.close()
    await writer.submit(add("two"))
    assert stored(tmp_path) == ["two"]


async def test_closing_writes_what_is_queued(writer: Writer, tmp_path: Path) -> None:
    go = held(writer)
    waiting = [writer.submit(add(str(n))) for n in range(600)]
    closing = asyncio.create_task(writer.close())
    go.set()
    await closing
    assert await asyncio.gather(*waiting) == [str(n) for n in range(600)]
    assert len(stored(tmp_path)) == 600
    with pytest.raises(LedgerError, match="closed"):
        writer.submit(add("late"))
    assert not (tmp_path / "w.db-wal").exists()


async def test_a_caller_that_went_away_does_not_stop_its_job(
    writer: Writer, tmp_path: Path
) -> None:
    go = held(writer)
    writer.submit(add("one")).cancel()
    go.set()
    await writer.submit(add("two"))
    assert stored(tmp_path) == ["one", "two"]
