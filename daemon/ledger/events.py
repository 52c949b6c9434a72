"""What happened to a turn or an effect, with its time: for `postroom trace`."""

from __future__ import annotations

import sqlite3

from daemon.ledger.rows import plain

LONGEST_DETAIL = 1000


def note(
    connection: sqlite3.Connection,
    at: float,
    conversation: str,
    subject: str,
    what: str,
    detail: str,
) -> None:
    connection.execute(
        "insert into event (at, conversation, subject, what, detail) values (?, ?, ?, ?, ?)",
        (at, conversation, subject, what, plain(detail)[:LONGEST_DETAIL]),
    )
