"""The outbox: effects in order per conversation, and what became of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from daemon.errors import LedgerError
from daemon.ledger import audit, events, intake, rows
from daemon.model import (
    AGENT,
    DAEMON,
    Audited,
    ConversationId,
    Effect,
    EffectId,
    EffectKind,
    NewEffect,
    TurnId,
)

# A conversation's oldest pending effect, while none of it is being sent.
_HEAD = (
    "o.seq = (select min(p.seq) from outbox p "
    "where p.conversation = o.conversation and p.state = 'pending') "
    "and not exists (select 1 from outbox s "
    "where s.conversation = o.conversation and s.state = 'sending')"
)


def insert(
    connection: sqlite3.Connection,
    effects: Iterable[NewEffect],
    *,
    now: float,
    state: str,
    turn: TurnId | None = None,
    attempt: int | None = None,
    tool_use_id: str | None = None,
) -> None:
    """An id that is there already is left alone: the same answer composed twice is one."""
    for effect in effects:
        names = rows.to_json([rows.plain(name) for name in effect.names])
        conversation = rows.plain(effect.conversation)
        added = connection.execute(
            "insert into outbox (id, connector, conversation, turn, attempt, tool_use_id, kind, "
            "state, created_at, target, body, names) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "on conflict do nothing",
            (
                effect.id,
                effect.connector,
                conversation,
                turn,
                attempt,
                tool_use_id,
                effect.kind,
                state,
                now,
                rows.to_json(effect.target),
                rows.to_json(effect.body),
                names,
            ),
        )
        if added.rowcount and effect.names:
            intake.add_names(connection, effect.connector, conversation, names)


def stage(
    connection: sqlite3.Connection,
    turn: TurnId,
    attempt: int,
    tool_use_id: str,
    effect: NewEffect,
    now: float,
) -> None:
    running = connection.execute(
        "select 1 from turn where id = ? and state = 'running' and attempt = ?", (turn, attempt)
    ).fetchone()
    if running is None:
        raise LedgerError(f"{turn} is not running its attempt {attempt}")
    insert(
        connection,
        (effect,),
        now=now,
        state="staged",
        turn=turn,
        attempt=attempt,
        tool_use_id=rows.plain(tool_use_id),
    )
    facts = {
        "turn": turn,
        "effect": effect.id,
        "kind": effect.kind,
        "connector": effect.connector,
    }
    texts = (rows.to_json(effect.target), rows.to_json(effect.body))
    wanted = Audited("effect.staged", AGENT, effect.conversation, facts, texts)
    audit.append(connection, now, wanted)


def settle_staged(connection: sqlite3.Connection, turn: TurnId, *, keep: bool) -> None:
    if keep:
        connection.execute(
            "update outbox set state = 'pending' where turn = ? and state = 'staged'", (turn,)
        )
    else:
        connection.execute("delete from outbox where turn = ? and state = 'staged'", (turn,))


def carry_over(
    connection: sqlite3.Connection, turn: TurnId, attempt: int, tools_done: frozenset[str]
) -> None:
    """Staged effects that the model believes done move to its next attempt; the others go."""
    done = rows.to_json([rows.plain(tool) for tool in tools_done])
    connection.execute(
        "delete from outbox where turn = ? and state = 'staged' "
        "and tool_use_id not in (select value from json_each(?))",
        (turn, done),
    )
    connection.execute(
        "update outbox set attempt = ? where turn = ? and state = 'staged'", (attempt, turn)
    )


# --- delivery ------------------------------------------------------------------------------------


def due(
    connection: sqlite3.Connection, connector: str, now: float, limit: int
) -> tuple[Effect, ...]:
    found = connection.execute(
        f"select {rows.EFFECT_COLUMNS} from outbox o "
        f"where connector = ? and state = 'pending' and not_before <= ? and {_HEAD} "
        "order by not_before, seq limit ?",
        (connector, now, limit),
    )
    return tuple(rows.effect(row) for row in found)


def next_due(connection: sqlite3.Connection, connector: str) -> float | None:
    row = connection.execute(
        "select not_before from outbox o "
        f"where connector = ? and state = 'pending' and {_HEAD} order by not_before, seq limit 1",
        (connector,),
    ).fetchone()
    return None if row is None else row["not_before"]


def left_sending(connection: sqlite3.Connection, connector: str) -> tuple[Effect, ...]:
    found = connection.execute(
        f"select {rows.EFFECT_COLUMNS} from outbox "
        "where connector = ? and state = 'sending' order by seq",
        (connector,),
    )
    return tuple(rows.effect(row) for row in found)


def mark_sending(connection: sqlite3.Connection, id_: EffectId, now: float) -> None:
    """T4. Raises LedgerError where it is not pending: it must not leave."""
    row = connection.execute(
        "update outbox set state = 'sending', attempts = attempts + 1, "
        "started_at = coalesce(started_at, ?) where id = ? and state = 'pending' "
        "returning conversation",
        (now, id_),
    ).fetchone()
    if row is None:
        raise LedgerError(f"{id_} is not pending")
    events.note(connection, now, row["conversation"], id_, "sending", "")


def mark_pending(
    connection: sqlite3.Connection, id_: EffectId, not_before: float, reason: str, now: float
) -> None:
    """A try that never came to `sending` counts as one here, for the back-off."""
    row = connection.execute(
        "update outbox set state = 'pending', attempts = attempts + (state = 'pending'), "
        "not_before = ?, reason = ? where id = ? and state in ('pending', 'sending') "
        "returning conversation",
        (not_before, rows.plain(reason), id_),
    ).fetchone()
    if row is not None:
        events.note(connection, now, row["conversation"], id_, "put back", reason)


def mark_ended(
    connection: sqlite3.Connection,
    id_: EffectId,
    state: str,
    now: float,
    *,
    ref: str | None = None,
    reason: str = "",
) -> None:
    """T5 and its like: `sent`, `unclear` or `dead`. One that has ended already is left alone."""
    row = connection.execute(
        "update outbox set state = ?, ended_at = ?, ref = ?, reason = ? "
        "where id = ? and state in ('pending', 'sending') "
        "returning conversation, turn, kind, connector, target, body",
        (state, now, rows.plain_or_none(ref), rows.plain(reason), id_),
    ).fetchone()
    if row is None:
        return
    events.note(connection, now, row["conversation"], id_, state, reason)
    facts = {"effect": id_, **{key: row[key] for key in ("turn", "kind", "connector")}}
    texts = (row["target"], row["body"])
    told = Audited(f"effect.{state}", DAEMON, row["conversation"], facts, texts)
    audit.append(connection, now, told)


def sent_as(connection: sqlite3.Connection, id_: EffectId) -> str | None:
    row = connection.execute(
        "select ref from outbox where id = ? and state = 'sent'", (id_,)
    ).fetchone()
    return None if row is None else row["ref"]


def count_sent(
    connection: sqlite3.Connection,
    connector: str,
    kind: EffectKind,
    since: float,
    conversation: ConversationId | None,
    sender: str | None,
) -> int:
    where = "connector = ? and kind = ? and created_at >= ? and state != 'dead'"
    values: list[object] = [connector, kind, since]
    if conversation is not None:
        where += " and conversation = ?"
        values.append(conversation)
    if sender is not None:
        where += " and conversation in (select id from conversation where opened_by = ?)"
        values.append(rows.plain(sender))
    row = connection.execute(f"select count(*) from outbox where {where}", values)
    return int(row.fetchone()[0])
