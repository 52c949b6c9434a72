"""The schema's versions: one file each, applied in order, each in a transaction of its own."""

from __future__ import annotations

import sqlite3
from importlib import resources

from daemon.errors import LedgerError


def steps() -> tuple[tuple[int, str], ...]:
    """(version, SQL) in order. A file's name begins with its version."""
    folder = resources.files("daemon.ledger") / "schema"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    found = sorted((int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files)
    return tuple(found)


def latest() -> int:
    return steps()[-1][0]


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("pragma user_version").fetchone()
    return int(version)


def refuse_newer(connection: sqlite3.Connection) -> None:
    """Raises LedgerError for a ledger that a later Postroom wrote."""
    found, known = version_of(connection), latest()
    if found > known:
        raise LedgerError(
            f"the ledger has schema version {found}, this Postroom knows none above {known}: "
            "run the version that wrote it, or restore a backup"
        )


def migrate(connection: sqlite3.Connection, up_to: int | None = None) -> None:
    """Bring a ledger up to date. Raises LedgerError; the ledger is then as it was before the step
    that failed.
    """
    refuse_newer(connection)
    found = version_of(connection)
    for version, sql in steps():
        if found < version and (up_to is None or version <= up_to):
            _apply(connection, version, sql)


def _apply(connection: sqlite3.Connection, version: int, sql: str) -> None:
    try:
        connection.executescript(
            f"begin immediate;\n{sql}\npragma user_version = {version};\ncommit;"
        )
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("rollback")
        raise LedgerError(f"migration {version} of the ledger failed: {error}") from error
