"""What authors do afterwards to what they wrote: change it, or take it back, while it waits.

What a turn has taken stays as it was: its messages are frozen. Every change is noted for `trace`.
"""

from __future__ import annotations

import sqlite3

from daemon.ledger import events, intake, rows
from daemon.model import (
    ConversationId,
    Deleted,
    Edited,
    MessageId,
    Outcome,
    Registered,
    new_message_id,
)

TAKEN_BACK = "deleted by its author"


def revise(connection: sqlite3.Connection, item: Edited, now: float) -> Registered:
    """The new text of a message that waits; one that was not for us becomes a message where it is
    addressed now.
    """
    row = intake.find(
        connection, item.message.connector, item.outside_id, item.message.alternate_id
    )
    if row is None:
        if item.begins:
            return intake.register(connection, item.message, None, now)
        return Registered(Outcome.IGNORED)
    if row["state"] == "ignored" and item.message.addressed and not row["addressed"]:
        return intake.register(connection, item.message, None, now)  # as when its mention comes
    known = Registered(Outcome.DUPLICATE, MessageId(row["message"]), _conversation(row))
    if row["body"] is None or row["state"] not in ("waiting", "unidentified", "ignored"):
        _note(connection, row, "changed too late", now)
        return known
    values = rows.message_values(item.message, now)
    changed = {name: values[name] for name in ("subject", "body", "attachments")}
    if all(row[name] == value for name, value in changed.items()):
        return known
    changed["addressed"] = max(row["addressed"], int(item.message.addressed))
    intake.update(connection, row["id"], changed)
    _note(connection, row, "changed", now)
    return Registered(Outcome.REVISED, known.message, known.conversation)


def withdraw(connection: sqlite3.Connection, item: Deleted, now: float) -> Registered:
    """A message that waits is not worked on. What comes after its deletion, out of order, neither:
    its key is kept.
    """
    row = intake.find(connection, item.connector, item.outside_id, None)
    if row is None:
        message = new_message_id()
        connection.execute(
            "insert into inbox (message, connector, outside_id, state, addressed, registered_at, "
            "reason) values (?, ?, ?, 'ignored', 1, ?, ?)",
            (message, item.connector, rows.plain(item.outside_id), now, TAKEN_BACK),
        )
        return Registered(Outcome.IGNORED, message)
    conversation = _conversation(row)
    known = Registered(Outcome.DUPLICATE, MessageId(row["message"]), conversation)
    if row["state"] == "claimed":
        _note(connection, row, "taken back too late", now)
    if row["state"] not in ("waiting", "unidentified", "ignored") or conversation is None:
        return known
    gone = {"state": "ignored", "reason": TAKEN_BACK, "addressed": 1}
    intake.update(connection, row["id"], intake.KEYS_ONLY | gone)
    _note(connection, row, "taken back", now)
    if row["state"] == "ignored":
        return known
    released = intake.release(connection, conversation, now)
    idle = not connection.execute(
        "select 1 from inbox where conversation = ?1 and state in ('waiting', 'unidentified') "
        "union all select 1 from turn where conversation = ?1 and state in ('queued', 'running')",
        (conversation,),
    ).fetchone()
    return Registered(
        Outcome.WITHDRAWN, known.message, conversation, taken_up=tuple(released), idle=idle
    )


def _conversation(row: sqlite3.Row) -> ConversationId | None:
    return ConversationId(row["conversation"]) if row["conversation"] else None


def _note(connection: sqlite3.Connection, row: sqlite3.Row, what: str, now: float) -> None:
    """What came too late is told by each event of it, and by each back-fill: noted once."""
    noted = "select 1 from event where subject = ? and what = ?"
    if what.endswith("too late") and connection.execute(noted, (row["message"], what)).fetchone():
        return
    events.note(connection, now, row["conversation"] or "", row["message"], what, "")
