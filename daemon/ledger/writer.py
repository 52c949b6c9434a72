"""The one writer: a thread that owns the only connection which writes or checkpoints.

Group commit: everything that queued up while the previous commit ran goes into the next, each job
in a savepoint of its own. The batch grows by itself under load; there is no delay to tune.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from daemon.errors import LedgerError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
_Waiting = tuple[Job, "asyncio.Future[Any]"]
_Result = tuple[Any, Exception | None]

MAX_BATCH = 256
IDLE_SECONDS = 0.25
CHECKPOINT_BYTES = 512 * 1024  # below it the write-ahead log is left alone
EMPTYING_TRIES, EMPTYING_PAUSE_SECONDS = 20, 0.1


class Writer:
    """`run(job)` returns `job(connection)` once the commit that contains it is on disk.

    The thread takes the connection over and closes it. Belongs to the loop it was made in.
    """

    def __init__(self, connection: sqlite3.Connection, log: Path | None = None) -> None:
        self._connection = connection
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self.commits = 0
        self._log_must_go = False
        self.failed: str | None = None  # why a whole transaction failed, until somebody asks
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Queue a job. The future ends after its commit, or with LedgerError (nothing of the job
        is durable), or with what the job itself raised. Cancelling the future does not stop a job.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        with self._gate:
            if self._closed:
                raise LedgerError("the ledger is closed")
            self._queue.put((job, future))
        return future

    async def empty_log(self) -> None:
        """Return when the write-ahead log, which keeps earlier forms of pages, is emptied. A reader
        that stays in the way is not waited for: the thread tries again whenever it comes to rest.
        """
        self._log_must_go = True
        for _ in range(EMPTYING_TRIES):
            await self.submit(_nothing)
            if not self._log_must_go:
                return
            await asyncio.sleep(EMPTYING_PAUSE_SECONDS)

    async def close(self) -> None:
        """Write what is queued, checkpoint, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._one_round():
                pass
        finally:  # whatever ended it: nobody is left hanging
            with self._gate:
                self._closed = True
            self._fail_the_rest()
            self._checkpoint()
            self._connection.close()

    def _one_round(self) -> bool:
        """Commit one batch; False when it was the last."""
        try:
            first = self._queue.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            if self._log_must_go or self._log_size() > CHECKPOINT_BYTES:
                self._checkpoint()
            first = self._queue.get()
        batch: list[_Waiting] = []
        last = first is None
        if first is not None:
            batch.append(first)
        while not last and len(batch) < MAX_BATCH and not self._queue.empty():
            item = self._queue.get()  # this thread is the only consumer
            if item is None:
                last = True
            else:
                batch.append(item)
        if batch:
            results = self._commit([job for job, _ in batch])
            if self._log_must_go:
                self._checkpoint()
            self._answer(batch, results)
        return not last

    def _commit(self, jobs: list[Job]) -> list[_Result]:
        """Run the jobs in one transaction. A failure of the transaction is every job's result."""
        connection = self._connection
        try:
            connection.execute("begin immediate")
            results = [self._in_savepoint(job) for job in jobs]
            connection.execute("commit")
        except Exception as error:  # noqa: BLE001 - the boundary: callers must hear of anything
            self._roll_back()
            self.failed = str(error)
            return [(None, _ours(error)) for _ in jobs]
        self.commits += 1
        return results

    def _in_savepoint(self, job: Job) -> _Result:
        connection = self._connection
        connection.execute("savepoint job")
        try:
            result: _Result = (job(connection), None)
        except Exception as error:
            # FULL, IOERR and NOMEM may have rolled everything back: then nobody's job stands.
            if not connection.in_transaction:
                raise
            connection.execute("rollback to job")
            result = (None, _ours(error))
        connection.execute("release job")
        return result

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error:
            return  # the next BEGIN fails and tells its callers

    def _answer(self, batch: list[_Waiting], results: list[_Result]) -> None:
        futures = [future for _, future in batch]
        try:
            self._loop.call_soon_threadsafe(_resolve, futures, results)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _fail_the_rest(self) -> None:
        rest: list[_Waiting] = []
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                rest.append(item)
        if rest:
            self._answer(rest, [(None, LedgerError("the ledger is closed")) for _ in rest])

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size if self._log is not None else 0
        except OSError:
            return 0

    def _checkpoint(self) -> None:
        """Empty the write-ahead log if no reader is in the way; only ever done here, as two
        connections that checkpoint at once can corrupt the file (SQLite before 3.51.3).
        """
        try:
            self._connection.execute("pragma busy_timeout = 0")
            (busy, *_) = self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            self._connection.execute("pragma busy_timeout = 5000")
            self._log_must_go = self._log_must_go and bool(busy)
        except sqlite3.Error:
            return  # the commits are on disk either way


def _nothing(_connection: sqlite3.Connection) -> None:
    """A job that waits for those before it."""


def _resolve(futures: list[asyncio.Future[Any]], results: list[_Result]) -> None:
    for future, (value, error) in zip(futures, results, strict=True):
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def _ours(error: Exception) -> Exception:
    """SQLite's words in ours; each caller gets an exception of its own."""
    if isinstance(error, sqlite3.Error):
        ours = LedgerError(f"{type(error).__name__}: {error}")
        ours.__cause__ = error
        return ours
    return error
