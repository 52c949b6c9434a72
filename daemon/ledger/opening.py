"""Opening a ledger: lock, check, migrate, take the next epoch. And opening one only to read."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from daemon.clock import Clock
from daemon.errors import ConfigError, LedgerError
from daemon.ledger import approvals, audit, letters, migrations, stories, upkeep
from daemon.ledger.lock import DataDirLock
from daemon.ledger.reader import Reader
from daemon.ledger.sqlite import SqliteLedger
from daemon.model import (
    DAEMON,
    Audited,
    AuditFindings,
    AuditHead,
    ConversationId,
    JsonObject,
)

FILE = "ledger.db"
_NEEDED = (3, 37, 0)  # STRICT tables; Debian 12 has 3.40

BUSY_MS = 5000
_MENDS = {
    sqlite3.SQLITE_FULL: "make room on its disk, then start again",
    sqlite3.SQLITE_IOERR: "look after its disk, then start again",
    sqlite3.SQLITE_BUSY: "another program has it open: close that",
    sqlite3.SQLITE_READONLY: "give this user the right to write it",
    sqlite3.SQLITE_CANTOPEN: "give this user the right to open it",
}


def engine_version() -> str:
    return sqlite3.sqlite_version


async def open_ledger(data_dir: Path, clock: Clock) -> SqliteLedger:
    """Open, or make, the ledger of a data directory, as its one owner.

    Raises DataDirBusy (another daemon holds it), ConfigError (the directory cannot be used) or
    LedgerError (the file is of a later version, or broken).
    """
    path = _file_in(data_dir)
    lock = await asyncio.to_thread(DataDirLock, path.parent)
    try:
        connection, epoch = await asyncio.to_thread(_open, path, clock.now())
    except BaseException:
        lock.release()
        raise
    return SqliteLedger(path=path, connection=connection, epoch=epoch, clock=clock, lock=lock)


def _file_in(data_dir: Path) -> Path:
    return data_dir.absolute() / FILE


def _open(path: Path, now: float) -> tuple[sqlite3.Connection, int]:
    """A migrated connection for the writer, and the epoch that it took. Raises LedgerError."""
    if sqlite3.sqlite_version_info < _NEEDED:
        raise LedgerError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its -wal and -shm follow its mode
    except OSError as error:
        raise ConfigError(f"daemon.data_dir: {path} cannot be written: {error}") from error
    connection = connect_for_writing(path)
    try:
        _check(connection)
        migrations.migrate(connection)
        epoch = _take_over(connection, now)
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(_told(path, error)) from error
    except LedgerError:
        connection.close()
        raise
    return connection, epoch


def _take_over(connection: sqlite3.Connection, now: float) -> int:
    """The next epoch. Raises sqlite3.Error."""
    connection.execute("begin immediate")
    (epoch,) = connection.execute("update owner set epoch = epoch + 1 returning epoch").fetchone()
    audit.append(connection, now, Audited("daemon.started", DAEMON, facts={"epoch": epoch}))
    connection.execute("commit")
    return int(epoch)


def _check(connection: sqlite3.Connection) -> None:
    """Look at every page, before anything is written: on a broken one an answer that was given may
    be forgotten. It reads the whole file. Raises sqlite3.Error.
    """
    (found,) = connection.execute("pragma quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(" ".join(found.split()))


def _told(path: Path, error: sqlite3.Error) -> str:
    """Why a ledger does not open, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return f"{path} is not a usable ledger: {error}; {_MENDS.get(code, 'restore a backup')}"


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Explicit BEGIN and COMMIT only; every commit on disk when it returns. Raises LedgerError."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute(f"pragma busy_timeout = {BUSY_MS}")
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        connection.execute("pragma synchronous = full")
        # What is erased must not stay in free space. It costs a write of each page that gets free.
        connection.execute("pragma secure_delete = on")
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(_told(path, error)) from error
    if mode != "wal":
        connection.close()
        raise LedgerError(f"{path}: the file system does not carry a write-ahead log ({mode})")
    return connection


class ReadOnlyLedger:
    """What the command line reads when no daemon runs, and the backup when one does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = Reader(path)

    async def check(self) -> None:
        """Raises LedgerError where this version does not know the ledger's."""
        found = await self._reader.run(migrations.version_of)
        if found != migrations.latest():
            raise LedgerError(
                f"the ledger has schema version {found}, this Postroom reads "
                f"{migrations.latest()}: `postroom run` brings an older one up to date"
            )

    async def trace(self, any_id: str) -> JsonObject | None:
        return await self._reader.run(lambda c: stories.trace(c, any_id))

    async def dead(self) -> tuple[JsonObject, ...]:
        return await self._reader.run(letters.dead)

    async def approvals(self) -> tuple[JsonObject, ...]:
        return await self._reader.run(approvals.pending)

    async def conversations(self, limit: int) -> tuple[JsonObject, ...]:
        return await self._reader.run(lambda c: stories.conversations(c, limit))

    async def conversation(self, conversation: ConversationId) -> JsonObject | None:
        return await self._reader.run(lambda c: stories.conversation(c, conversation))

    async def talk(self, conversation: ConversationId, limit: int) -> tuple[JsonObject, ...]:
        return await self._reader.run(lambda c: stories.talk(c, conversation, limit))

    async def audit_after(self, seq: int, limit: int) -> tuple[JsonObject, ...]:
        """Records behind a number, oldest first."""
        return await self._reader.run(lambda c: audit.after(c, seq, limit))

    async def audit_names(self) -> JsonObject:
        """What the aliases of the audit mean that are not forgotten."""
        return await self._reader.run(audit.meanings)

    async def verify_audit(self, anchors: Sequence[AuditHead]) -> AuditFindings:
        return await self._reader.run(lambda c: audit.verify(c, anchors))

    async def backup(self, path: Path) -> None:
        await asyncio.to_thread(upkeep.backup, self._path, path)

    async def close(self) -> None:
        await self._reader.close()


async def read_only(data_dir: Path) -> ReadOnlyLedger:
    """Raises LedgerError where there is none, or none of this version."""
    ledger = ReadOnlyLedger(_file_in(data_dir))
    try:
        await ledger.check()
    except LedgerError:
        await ledger.close()
        raise
    return ledger
