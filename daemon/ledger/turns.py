"""Turns: what is ready, who claims it, and how each ends; one transaction each."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger import approvals, audit, events, letters, outbox, rows
from daemon.model import (
    AGENT,
    DAEMON,
    Audited,
    ConversationId,
    NewEffect,
    Priority,
    ProcessRef,
    ReadyConversation,
    StoredMessage,
    Trust,
    Turn,
    TurnId,
    TurnState,
    Workspace,
    new_turn_id,
)
from daemon.ports import ClaimLimits, Ending

SAID_AT_MOST = 50
STOPPED = "a person stopped it before it began"
_ACTIVE = "(state = 'queued' or state = 'running')"
_OPEN = "(state = 'waiting' or state = 'unidentified')"
_TOOL_NAME = re.compile(r"[A-Za-z][\w-]{0,63}")
_TURN = "select t.*, w.root, w.session from turn t join workspace w on w.id = t.workspace"


# --- what is ready -------------------------------------------------------------------------------


def ready(connection: sqlite3.Connection, id_: ConversationId) -> ReadyConversation | None:
    conversation = connection.execute(
        "select priority, trust, workspace from conversation where id = ?", (id_,)
    ).fetchone()
    if conversation is None:
        return None
    active = connection.execute(
        f"select id, state, not_before from turn where conversation = ? and {_ACTIVE}",
        (id_,),
    ).fetchone()
    if active is None:
        times = _waiting_times(connection, id_)
    elif active["state"] == "running":
        return None
    else:
        found = connection.execute(
            "select registered_at from inbox where turn = ? order by id", (active["id"],)
        )
        times = [row["registered_at"] for row in found]
    if not times:
        return None
    return ReadyConversation(
        id=id_,
        priority=Priority(conversation["priority"]),
        since=times[0],
        latest=times[-1],
        previous=times[-2] if len(times) > 1 and active is None else None,
        not_before=active["not_before"] if active is not None else 0.0,
        waiting=len(times),
        trust=Trust(conversation["trust"]),
        settled=conversation["workspace"] is not None,
    )


def _waiting_times(connection: sqlite3.Connection, id_: ConversationId) -> list[float]:
    """When each message was registered that may be claimed now: none behind an unidentified one."""
    times: list[float] = []
    for row in connection.execute(
        f"select state, registered_at from inbox where conversation = ? and {_OPEN} order by id",
        (id_,),
    ):
        if row["state"] != "waiting":
            break
        times.append(row["registered_at"])
    return times


def all_ready(connection: sqlite3.Connection) -> tuple[ReadyConversation, ...]:
    found = connection.execute(
        f"select conversation from inbox where {_OPEN} "
        "union select conversation from turn where state = 'queued'"
    ).fetchall()
    return ready_among(connection, [ConversationId(row["conversation"]) for row in found])


def ready_among(
    connection: sqlite3.Connection, conversations: Sequence[ConversationId]
) -> tuple[ReadyConversation, ...]:
    each = (ready(connection, conversation) for conversation in conversations)
    return tuple(one for one in each if one is not None)


# --- claim ---------------------------------------------------------------------------------------


def claim(
    connection: sqlite3.Connection,
    id_: ConversationId,
    spare: Workspace | None,
    limits: ClaimLimits,
    *,
    epoch: int,
    now: float,
    data_dir: Path,
) -> Turn | None:
    """T2: a queued turn whose time has come, as it was frozen; else a new one over what waits."""
    active = connection.execute(
        f"select id, state, not_before from turn where conversation = ? and {_ACTIVE}",
        (id_,),
    ).fetchone()
    if active is not None:
        if active["state"] == "running" or active["not_before"] > now:
            return None
        workspace = _settle(connection, id_, spare, now=now, data_dir=data_dir)
        connection.execute(
            "update turn set state = 'running', epoch = ?, workspace = ? where id = ?",
            (epoch, workspace, active["id"]),
        )
        return load(connection, active["id"], data_dir)
    chosen = _longest_run(connection, id_, limits)
    if not chosen:
        return None
    workspace = _settle(connection, id_, spare, now=now, data_dir=data_dir)
    turn = new_turn_id()
    connection.execute(
        "insert into turn (id, conversation, connector, trust, state, epoch, workspace, fresh, "
        "claimed_at) select ?, id, connector, trust, 'running', ?, ?, "
        "not exists (select 1 from turn where conversation = ?), ? from conversation where id = ?",
        (turn, epoch, workspace, id_, now, id_),
    )
    connection.executemany(
        "update inbox set state = 'claimed', turn = ? where id = ?",
        [(turn, number) for number in chosen],
    )
    connection.execute(
        "update turn set retried_as = ? where conversation = ? and retried_as = ?",
        (turn, id_, letters.NEXT),
    )
    claimed = load(connection, turn, data_dir)
    assert claimed is not None  # noqa: S101 - it was written above
    audit.append(connection, now, *map(partial(_asked, claimed), claimed.messages))
    return claimed


def _asked(turn: Turn, stored: StoredMessage) -> Audited:
    """Who asked for a turn, with what trust; a record a message."""
    message = stored.message
    return Audited(
        "message.claimed",
        by=message.sender.id,
        conversation=turn.conversation,
        facts={
            "message": stored.id,
            "turn": turn.id,
            "connector": message.connector,
            "trust": turn.trust,
            "sender_trust": message.sender.trust,
        },
        texts=(message.subject, message.text),
    )


def _longest_run(
    connection: sqlite3.Connection, id_: ConversationId, limits: ClaimLimits
) -> list[int]:
    """Ids of the messages that one turn takes, from the oldest; at least one where any waits.

    Those of one conversation have one label: a lower one is left out, a higher one speaks at it.
    """
    chosen: list[int] = []
    size = 0
    for row in connection.execute(
        "select id, state, length(cast(body as blob)) as size from inbox "
        f"where conversation = ? and {_OPEN} order by id limit ?",
        (id_, max(limits.messages, 1)),
    ):
        size += row["size"]
        if row["state"] != "waiting" or (chosen and size > limits.bytes):
            break
        chosen.append(row["id"])
    return chosen


def _settle(
    connection: sqlite3.Connection,
    id_: ConversationId,
    spare: Workspace | None,
    *,
    now: float,
    data_dir: Path,
) -> str:
    """The conversation's workspace, which it adopts here if it has none."""
    row = connection.execute("select workspace from conversation where id = ?", (id_,)).fetchone()
    if row["workspace"] is not None:
        return str(row["workspace"])
    if spare is None:
        raise LedgerError(f"{id_} has no workspace, and none was offered")
    connection.execute(
        "insert into workspace (id, root, session, adopted_at) values (?, ?, ?, ?)",
        (spare.id, rows.stored_root(spare.root, data_dir), spare.session, now),
    )
    connection.execute("update conversation set workspace = ? where id = ?", (spare.id, id_))
    return spare.id


def put_back_claim(connection: sqlite3.Connection, turn: TurnId) -> None:
    """A claim whose caller went away before it heard: nobody runs that turn."""
    connection.execute(
        "update turn set state = 'queued' where id = ? and state = 'running'", (turn,)
    )


# --- a turn's life -------------------------------------------------------------------------------


def load(connection: sqlite3.Connection, id_: str, data_dir: Path) -> Turn | None:
    row = connection.execute(f"{_TURN} where t.id = ?", (id_,)).fetchone()
    if row is None:
        return None
    messages = _messages(connection, id_)
    return replace(rows.turn(row, messages, data_dir), asked_by=_asked_by(connection, messages))


def _asked_by(connection: sqlite3.Connection, messages: tuple[StoredMessage, ...]) -> str:
    """Who wrote the first message of the turn that asked for what is approved here; "": this turn
    begins with a message of its own, or nobody knows any more.
    """
    sender, outside_id = "", messages[0].message.outside_id if messages else ""
    while outside_id.startswith("approval:"):
        asked = connection.execute(
            "select i.sender, i.outside_id from approval a join inbox i on i.turn = a.turn "
            "where a.id = ? order by i.id limit 1",
            (outside_id.removeprefix("approval:"),),
        ).fetchone()
        sender, outside_id = asked or ("", "")
    return sender


def _messages(connection: sqlite3.Connection, turn: str) -> tuple[StoredMessage, ...]:
    found = connection.execute(
        f"select {rows.MESSAGE_COLUMNS} from inbox where turn = ? order by id",
        (turn,),
    )
    return tuple(rows.stored_message(row) for row in found)


def workspace(
    connection: sqlite3.Connection, id_: ConversationId, data_dir: Path
) -> Workspace | None:
    row = connection.execute(
        "select w.id as workspace, w.root, w.session from conversation c "
        "join workspace w on w.id = c.workspace where c.id = ?",
        (id_,),
    ).fetchone()
    return rows.workspace(row, data_dir) if row is not None else None


def begin_attempt(
    connection: sqlite3.Connection, turn: TurnId, attempt: int, process: ProcessRef, now: float
) -> None:
    begun = connection.execute(
        "update turn set attempt = ?, pid = ?, pid_started = ?, resend = 0, fresh = 0 "
        "where id = ? and state = 'running' returning conversation, workspace",
        (attempt, process.pid, process.start_time, turn),
    ).fetchone()
    if begun is None:
        raise LedgerError(f"{turn} is not running")
    events.note(
        connection, now, begun["conversation"], turn, "attempt", f"{attempt}, process {process.pid}"
    )


def note_tools(
    connection: sqlite3.Connection, turn: TurnId, used: Sequence[tuple[float, str]], now: float
) -> None:
    row = connection.execute("select conversation from turn where id = ?", (turn,)).fetchone()
    if row is None or not used:
        return  # it was erased meanwhile, or there is nothing to note
    for at, name in used:
        events.note(connection, at, row["conversation"], turn, "tool used", name)
    # What the model calls a tool is its word: only what looks like a name is one.
    names = Counter(name if _TOOL_NAME.fullmatch(name) else "unnamed" for _, name in used)
    facts = {"turn": turn, "tools": dict(names)}
    audit.append(connection, now, Audited("tools.used", AGENT, row["conversation"], facts))


def requeue(
    connection: sqlite3.Connection,
    turn: TurnId,
    *,
    not_before: float,
    resend: bool,
    failed: bool,
    told: bool,
    tools_done: frozenset[str] | None,
    effects: tuple[NewEffect, ...],
    reason: str,
    now: float,
) -> None:
    row = connection.execute(
        "update turn set state = 'queued', not_before = ?, resend = ?, failures = failures + ?, "
        "told = max(told, ?), reason = ?, pid = null, pid_started = null "
        "where id = ? and state = 'running' returning conversation, attempt",
        (not_before, int(resend), int(failed), int(told), rows.plain(reason), turn),
    ).fetchone()
    if row is None:
        return  # erased, or ended by another hand: nothing to put back
    if tools_done is not None:
        outbox.carry_over(connection, turn, row["attempt"] + 1, tools_done)
    outbox.insert(connection, effects, turn=turn, state="pending", now=now)
    events.note(connection, now, row["conversation"], turn, "put back", reason)


def end_turn(connection: sqlite3.Connection, turn: TurnId, ending: Ending, now: float) -> bool:
    """T3: the turn, its staged effects and its new ones, and what was decided for it meanwhile."""
    row = connection.execute(
        "update turn set state = ?, text = ?, reason = ?, ended_at = ?, not_before = 0 "
        f"where id = ? and {_ACTIVE} returning conversation, attempt",
        (ending.state, rows.plain(ending.text), rows.plain(ending.reason), now, turn),
    ).fetchone()
    if row is None:
        return False
    outbox.settle_staged(connection, turn, keep=ending.keep_staged)
    outbox.insert(connection, ending.effects, turn=turn, state="pending", now=now)
    facts = {
        "turn": turn,
        "state": ending.state,
        "attempt": row["attempt"],
        "effects": [effect.id for effect in ending.effects],
    }
    by = AGENT if ending.state is TurnState.DONE else DAEMON
    told = Audited("turn.ended", by, row["conversation"], facts, (ending.text,))
    audit.append(connection, now, told)
    approvals.turn_ended(connection, turn, now, stopped=ending.state is TurnState.STOPPED)
    return True


def call_off(
    connection: sqlite3.Connection, id_: ConversationId, by: str, now: float
) -> tuple[StoredMessage, ...]:
    """Somebody said stop: what has not begun ends as a stopped turn. Returns its messages."""
    turn = connection.execute(
        "select id from turn where conversation = ? and state = 'queued'", (id_,)
    ).fetchone()
    stopped = [turn["id"]] if turn is not None else []
    waiting = connection.execute(
        "select id from inbox where conversation = ? and state = 'waiting'", (id_,)
    ).fetchall()
    if waiting:
        stopped.append(new_turn_id())
        connection.execute(
            "insert into turn (id, conversation, connector, trust, state, epoch, workspace, "
            "claimed_at) select ?, id, connector, trust, 'stopped', 0, coalesce(workspace, ''), ? "
            "from conversation where id = ?",
            (stopped[-1], now, id_),
        )
        connection.executemany(
            "update inbox set state = 'claimed', turn = ? where id = ?",
            [(stopped[-1], row["id"]) for row in waiting],
        )
    for each in stopped:
        connection.execute(
            "update turn set state = 'stopped', reason = ?, ended_at = ?, not_before = 0 "
            "where id = ?",
            (STOPPED, now, each),
        )
        outbox.settle_staged(connection, TurnId(each), keep=False)
        approvals.turn_ended(connection, each, now, stopped=True)
    known = connection.execute("select 1 from conversation where id = ?", (id_,)).fetchone()
    if known is not None:
        told = Audited("conversation.stopped", by, id_, {"turns": stopped})
        audit.append(connection, now, told)
    return tuple(message for each in stopped for message in _messages(connection, each))


def release(connection: sqlite3.Connection, reason: str, now: float) -> tuple[ConversationId, ...]:
    """Turns that were put back for this reason need not wait any longer."""
    found = connection.execute(
        "update turn set not_before = ? where state = 'queued' and reason = ? and not_before > ? "
        "returning conversation",
        (now, reason, now),
    ).fetchall()
    return tuple(ConversationId(row["conversation"]) for row in found)


def interrupted(
    connection: sqlite3.Connection, *, epoch: int, now: float, data_dir: Path
) -> tuple[Turn, ...]:
    found = connection.execute(
        "select id, conversation, death_seen_by from turn "
        "where state = 'running' and epoch < ? order by seq",
        (epoch,),
    ).fetchall()
    for row in found:
        if row["death_seen_by"] != epoch:
            connection.execute(
                "update turn set deaths = deaths + 1, death_seen_by = ? where id = ?",
                (epoch, row["id"]),
            )
            events.note(connection, now, row["conversation"], row["id"], "interrupted", "")
    turns = (load(connection, row["id"], data_dir) for row in found)
    return tuple(turn for turn in turns if turn is not None)


def said(connection: sqlite3.Connection, id_: ConversationId, before: TurnId) -> tuple[str, ...]:
    """The last lines of the turns before this one, oldest first."""
    earlier = connection.execute(
        "select id, text from turn where conversation = ? "
        "and seq < (select seq from turn where id = ?) order by seq desc limit ?",
        (id_, before, SAID_AT_MOST),
    ).fetchall()
    lines: list[str] = []
    for turn in reversed(earlier):
        lines += [
            f"{row['sender_name'] or 'Someone'} ({row['sender'] or 'unknown'}, "
            f"{row['sender_trust'] or 'public'}): {row['body'] or ''}"
            for row in connection.execute(
                "select sender_name, sender, sender_trust, body from inbox where turn = ? "
                "order by id",
                (turn["id"],),
            )
        ]
        if turn["text"]:
            lines.append(f"You: {turn['text']}")
    return tuple(lines[-SAID_AT_MOST:])
