"""What people ask: the whole story of a message, a turn or an effect; docs/trace.md has the shapes.

Ids, states, times and reasons; never a text that somebody wrote, `talk` excepted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from daemon.ledger.rows import plain, to_json
from daemon.model import ConversationId, JsonObject

SHOWN = 200  # of a conversation's messages, turns and effects each: the latest

_MESSAGE = (
    "message as id, connector, outside_id, alternate_id, conversation, turn, state, addressed, "
    "deliveries, sender, sender_trust, sent_at, registered_at, reason, raw_path, discarded_at"
)
_TURN = (
    "id, conversation, connector, trust, state, attempt, failures, deaths, claimed_at, not_before, "
    "ended_at, reason, pid, workspace, retried_as, discarded_at"
)
_EFFECT = (
    "id, conversation, connector, kind, turn, attempt, tool_use_id, state, attempts, created_at, "
    "not_before, started_at, ended_at, ref, reason, discarded_at"
)
_APPROVAL = (
    "id, conversation, connector, turn, tool, digest, state, asked_at, decided_at, decider, "
    "taken_at, message"
)
# What comes first of what one transaction wrote, at one time. An end of a turn is 4, as all else.
_ORDER = {
    what: rank
    for rank, whats in enumerate(
        [
            ("sent by its author",),
            ("registered",),
            ("claimed",),
            ("interrupted", "attempt", "staged"),
            (),
            ("recorded",),
            ("sending",),
            ("sent", "unclear"),
        ]
    )
    for what in whats
}


def trace(connection: sqlite3.Connection, any_id: str) -> JsonObject | None:
    """By our id of a message, turn, effect, approval or conversation, or by what the outside calls
    it.
    """
    asked = plain(any_id.strip())
    if not asked:
        return None
    turns = _column(
        connection,
        "select id from turn where id = ?1 union select turn from approval where id = ?1 "
        "union select turn from inbox where message in (select message from approval "
        "where id = ?1)",
        (asked,),
    )
    effects = _effects_called(connection, asked)
    messages = _messages_called(connection, asked)
    if not (turns or effects or messages):
        return conversation(connection, ConversationId(asked))
    turns += _column(connection, _in("select turn from inbox where message"), (to_json(messages),))
    turns += _column(connection, _in("select turn from outbox where id"), (to_json(effects),))
    return _story(connection, asked, turns, messages, effects)


def _effects_called(connection: sqlite3.Connection, asked: str) -> list[str]:
    return _column(
        connection,
        "select id from outbox where id = ? or ref = ? "
        "or exists (select 1 from json_each(names) where value = ? or value = '<' || ? || '>')",
        (asked, asked, asked, asked),
    )


def _messages_called(connection: sqlite3.Connection, asked: str) -> list[str]:
    """By our id, an outside id, the end of one ("1700000000.000100" of "T1:C1:1700000000.000100"),
    or a name ("<id@host>", with or without its brackets). What was ignored has no names: a mail is
    then found by the beginning of its alternate id ("<id@host> HASH").
    """
    return _column(
        connection,
        "select message from inbox where message = ?1 or outside_id = ?1 or alternate_id = ?1 "
        "or substr(outside_id, -length(?1) - 1) = ':' || ?1 "
        "or substr(alternate_id, 1, length(?1) + 1) = ?1 || ' ' "
        "or substr(alternate_id, 1, length(?1) + 3) = '<' || ?1 || '> ' "
        "or exists (select 1 from json_each(coalesce(names, '[]')) "
        "where value = ?1 or value = '<' || ?1 || '>') order by id",
        (asked,),
    )


def _story(
    connection: sqlite3.Connection,
    asked: str,
    turns: list[str],
    messages: list[str],
    effects: list[str],
) -> JsonObject:
    """What was asked for, with the turns it belongs to and everything of those."""
    turns = _with_earlier(connection, turns)
    known = to_json(turns)
    messages += _column(connection, _in("select message from inbox where turn"), (known,))
    effects += _column(connection, _in("select id from outbox where turn"), (known,))
    approvals = _column(connection, _in("select id from approval where turn"), (known,))
    approvals += _column(
        connection, _in("select id from approval where message"), (to_json(messages),)
    )
    story = {
        "id": asked,
        "messages": _rows(connection, _MESSAGE, "inbox", "message", messages),
        "turns": [_turn(connection, row) for row in _rows(connection, _TURN, "turn", "id", turns)],
        "effects": _rows(connection, _EFFECT, "outbox", "id", effects),
        "approvals": _rows(connection, _APPROVAL, "approval", "id", approvals),
    }
    return {**story, "timeline": _timeline(connection, story)}


def _with_earlier(connection: sqlite3.Connection, turns: list[str]) -> list[str]:
    """These turns, and those that were given up on and that they try again."""
    return _column(
        connection,
        "with recursive told (id) as (select value from json_each(?) "
        "union select turn.id from turn join told on turn.retried_as = told.id) "
        "select id from told",
        (to_json(turns),),
    )


def _turn(connection: sqlite3.Connection, row: dict[str, Any]) -> dict[str, Any]:
    calls, cost, tokens = connection.execute(
        "select count(*), total(cost), coalesce(sum(input + output + cache_read + cache_write), 0) "
        "from cost where turn = ?",
        (row["id"],),
    ).fetchone()
    return {**row, "model_calls": calls, "tokens": tokens, "cost_usd": round(cost, 6)}


def _timeline(connection: sqlite3.Connection, story: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that happened, in order of time."""
    moments: list[dict[str, Any]] = []

    def add(at: float | None, what: str, id_: str, detail: str = "") -> None:
        if at is not None:
            moments.append({"at": at, "what": what, "id": id_, "detail": detail or None})

    for row in story["messages"]:
        add(row["sent_at"], "sent by its author", row["id"], row["outside_id"])
        add(row["registered_at"], "registered", row["id"], row["reason"] or row["state"])
    for row in story["turns"]:
        add(row["claimed_at"], "claimed", row["id"])
        add(row["ended_at"], row["state"], row["id"], row["reason"])
    for row in story["effects"]:
        staged = row["tool_use_id"]
        add(row["created_at"], "staged" if staged else "recorded", row["id"], row["kind"])
        if row["state"] == "sent":
            add(row["ended_at"], "sent", row["id"], row["ref"] or "")
    parts = ("turns", "effects", "messages", "approvals")
    subjects = [row["id"] for part in parts for row in story[part]]
    for row in connection.execute(
        _in("select at, what, subject, detail from event where subject"), (to_json(subjects),)
    ):
        if row["what"] != "sent":
            add(row["at"], row["what"], row["subject"], row["detail"])
    for row in connection.execute(
        _in(
            "select turn, model, status, seconds, started_at, cost, "
            "input + output + cache_read + cache_write as tokens from cost where turn"
        ),
        (to_json([row["id"] for row in story["turns"]]),),
    ):
        detail = (
            f"{row['model']} {row['status']}, {row['seconds']:.1f} s, {row['tokens']} tokens, "
            f"${row['cost']:.4f}"
        )
        add(row["started_at"], "model asked", row["turn"], detail)
    return sorted(moments, key=lambda moment: (moment["at"], _ORDER.get(moment["what"], 4)))


# --- conversations -------------------------------------------------------------------------------


def conversations(connection: sqlite3.Connection, limit: int) -> tuple[JsonObject, ...]:
    """The latest first."""
    found = connection.execute(
        "select c.id, c.connector, c.trust, c.last_at, "
        "coalesce((select state from turn t where t.conversation = c.id "
        "and (t.state = 'queued' or t.state = 'running')), 'idle') as state, "
        "(select count(*) from inbox i where i.conversation = c.id and i.state = 'waiting') "
        "as waiting, "
        "(select count(*) from turn t where t.conversation = c.id) as turns, "
        "(select round(total(cost), 6) from cost where cost.conversation = c.id) as cost_usd "
        "from conversation c order by c.last_at desc limit ?",
        (limit,),
    )
    return tuple(dict(row) for row in found)


def conversation(connection: sqlite3.Connection, id_: ConversationId) -> JsonObject | None:
    row = connection.execute("select * from conversation where id = ?", (id_,)).fetchone()
    if row is None:
        return None
    turns = _column(
        connection,
        "select id from turn where conversation = ? order by seq desc limit ?",
        (id_, SHOWN),
    )
    messages = _column(
        connection,
        "select message from inbox where conversation = ? order by id desc limit ?",
        (id_, SHOWN),
    )
    effects = _column(
        connection,
        "select id from outbox where conversation = ? order by seq desc limit ?",
        (id_, SHOWN),
    )
    about = {
        key: row[key]
        for key in ("connector", "trust", "opened_by", "workspace", "created_at", "last_at")
    }
    return {"id": id_, **about, **_story(connection, id_, turns, messages, effects)}


def talk(connection: sqlite3.Connection, id_: ConversationId, limit: int) -> tuple[JsonObject, ...]:
    """The last messages and answers with their texts, oldest first: at, who, text, id."""
    found = connection.execute(
        "select registered_at as at, 0 as after, id as seq, coalesce(nullif(sender_name, ''), "
        "'Someone') || ' (' || coalesce(sender, '') || ')' as who, body as text, message as id "
        "from inbox where conversation = ?1 and state in ('waiting', 'claimed', 'unidentified') "
        "union all select ended_at, 1, seq, 'Postroom, ' || state, text, id from turn "
        "where conversation = ?1 and ended_at is not null "
        "order by 1 desc, 2 desc, 3 desc limit ?2",
        (id_, limit),
    ).fetchall()
    return tuple({key: row[key] for key in ("at", "who", "text", "id")} for row in reversed(found))


# --- small things --------------------------------------------------------------------------------


def _in(query: str) -> str:
    return f"{query} in (select value from json_each(?))"


def _column(connection: sqlite3.Connection, query: str, values: Iterable[Any]) -> list[str]:
    found = connection.execute(query, tuple(values))
    return [row[0] for row in found if row[0] is not None]


def _rows(
    connection: sqlite3.Connection, columns: str, table: str, key: str, ids: list[str]
) -> list[dict[str, Any]]:
    query = _in(f"select {columns} from {table} where {key}")
    order = "id" if table == "inbox" else "seq"
    found = connection.execute(f"{query} order by {table}.{order}", (to_json(ids),))
    return [dict(row) for row in found]
