"""Dead letters: what was given up on, and a person's word on each."""

from __future__ import annotations

import sqlite3
from typing import Any

from daemon.ledger import audit, events
from daemon.model import COMMAND_LINE, Audited, ConversationId, JsonObject, new_turn_id

NEXT = "next"  # `retried_as` until the turn is claimed that takes its messages
RAW_SHOWN = 2000  # characters of what could not be read

_DEAD_TURN = "state = 'dead' and discarded_at is null and retried_as is null"
_DEAD_EFFECT = "(state = 'unclear' or state = 'dead') and discarded_at is null"
_UNREADABLE = "state = 'unreadable' and discarded_at is null"


def dead(connection: sqlite3.Connection) -> tuple[JsonObject, ...]:
    """Oldest first. Each has id, kind ("turn", "effect" or "message"), connector, conversation, at
    and reason, and what helps to judge it.
    """
    letters: list[dict[str, Any]] = [
        {"kind": "turn", **row}
        for row in _rows(
            connection,
            "select id, connector, conversation, ended_at as at, reason, attempt, failures, "
            f"deaths, claimed_at from turn where {_DEAD_TURN}",
        )
    ]
    letters += [
        {"kind": "effect", **row}
        for row in _rows(
            connection,
            "select id, connector, conversation, ended_at as at, reason, state, kind as effect, "
            f"turn, attempts, created_at from outbox where {_DEAD_EFFECT}",
        )
    ]
    for row in _rows(
        connection,
        "select message as id, connector, conversation, registered_at as at, reason, outside_id, "
        f"raw from inbox where {_UNREADABLE}",
    ):
        raw = bytes(row.pop("raw") or b"").decode("utf-8", "replace")
        letters.append({"kind": "message", **row, "raw": raw[:RAW_SHOWN]})
    return tuple(sorted(letters, key=lambda letter: letter["at"]))


def retry(
    connection: sqlite3.Connection, any_id: str, *, epoch: int, now: float
) -> ConversationId | None:
    """A dead turn's messages become a new turn; an effect that is dead or unclear is sent again.
    None: no such dead letter, or one that cannot be tried again (what could not be read).
    """
    effect = connection.execute(
        "update outbox set state = 'pending', attempts = 0, not_before = 0, created_at = ?, "
        f"ended_at = null where id = ? and {_DEAD_EFFECT} returning conversation",
        (now, any_id),
    ).fetchone()
    if effect is not None:
        _by_a_person(connection, effect["conversation"], any_id, "retried", now)
        return ConversationId(effect["conversation"])
    turn = connection.execute(
        f"select * from turn where id = ? and {_DEAD_TURN}",
        (any_id,),
    ).fetchone()
    if turn is None:
        return None
    return _retry_turn(connection, turn, epoch, now)


def _retry_turn(
    connection: sqlite3.Connection, turn: sqlite3.Row, epoch: int, now: float
) -> ConversationId:
    """A turn of their own, so that what killed it harms no other message; where the conversation
    has a turn already, they wait for the next.
    """
    new = new_turn_id()
    queued = connection.execute(
        "insert into turn "
        "(id, conversation, connector, trust, state, epoch, workspace, claimed_at) "
        "values (?, ?, ?, ?, 'queued', ?, ?, ?) on conflict do nothing",
        (
            new,
            turn["conversation"],
            turn["connector"],
            turn["trust"],
            epoch,
            turn["workspace"],
            now,
        ),
    )
    state, successor = ("claimed", new) if queued.rowcount else ("waiting", None)
    connection.execute(
        "update inbox set turn = ?, state = ? where turn = ?", (successor, state, turn["id"])
    )
    connection.execute(
        "update turn set retried_as = ? where id = ?", (successor or NEXT, turn["id"])
    )
    _by_a_person(connection, turn["conversation"], turn["id"], "retried", now)
    return ConversationId(turn["conversation"])


def discard(connection: sqlite3.Connection, any_id: str, now: float) -> bool:
    """Out of the list, and kept in the trace."""
    for table, key, condition in (
        ("turn", "id", _DEAD_TURN),
        ("outbox", "id", _DEAD_EFFECT),
        ("inbox", "message", _UNREADABLE),
    ):
        row = connection.execute(
            f"update {table} set discarded_at = ? where {key} = ? and {condition} "
            "returning coalesce(conversation, '') as conversation",
            (now, any_id),
        ).fetchone()
        if row is not None:
            _by_a_person(connection, row["conversation"], any_id, "discarded", now)
            return True
    return False


def _by_a_person(
    connection: sqlite3.Connection, conversation: str, id_: str, what: str, now: float
) -> None:
    events.note(connection, now, conversation, id_, f"{what} by a person", "")
    told = Audited(f"dead.{what}", COMMAND_LINE, conversation, {"id": id_})
    audit.append(connection, now, told)


def _rows(connection: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query)]
