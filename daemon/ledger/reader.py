"""Reads beside the writer: a thread with a connection that cannot write (`mode=ro`).

In WAL a read sees everything that was committed when it began, so one's own commits are seen.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from daemon.errors import LedgerError

T = TypeVar("T")


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises LedgerError."""
    try:
        return _connect(f"{path.resolve().as_uri()}?mode=ro")
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("pragma busy_timeout = 5000")
        connection.execute("pragma query_only = on")
        connection.execute("select count(*) from sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Reader:
    """`run(job)` returns `job(connection)`; jobs run one after the other."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_for_reading(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._closed = False

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Raises LedgerError."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, job)

    def _guarded(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """One read transaction: all statements of a job see the same moment."""
        try:
            self._connection.execute("begin")
            try:
                return job(self._connection)
            finally:
                self._connection.execute("commit")
        except sqlite3.Error as error:
            raise LedgerError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._thread.shutdown)
            self._connection.close()
