"""Approvals: calls that wait for a person's word, the word, and the one use that is made of it.

A word that no agent waits for comes back as a message of the conversation, once two things are
there: the decision, and the end of the turn that asked. Whichever is second registers it, in its
own transaction; so a death in between neither loses it nor brings it twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from daemon.budgets import read_raise
from daemon.errors import LedgerError
from daemon.ledger import audit, costs, events, intake, outbox, rows
from daemon.model import (
    AGENT,
    DAEMON,
    RAISE,
    Approval,
    ApprovalId,
    ApprovalState,
    Audited,
    JsonObject,
    Message,
    NewEffect,
    Sender,
    Trust,
    TurnId,
    Verdict,
)

MOST_PENDING = 5  # of one conversation: nobody reads more


# --- the agent's side ----------------------------------------------------------------------------


def request(
    connection: sqlite3.Connection, asked: Approval, effects: Iterable[NewEffect], now: float
) -> Approval | None:
    """What holds for a call: a grant, which it uses; a denial that its turn knows of; what is
    pending; else this one from now on. None: too much is pending.
    """
    running = connection.execute(
        "select 1 from turn where id = ? and state = 'running'", (asked.turn,)
    ).fetchone()
    if running is None:
        raise LedgerError(f"{asked.turn} is not running")
    known = connection.execute(
        "select * from approval where conversation = ?1 and digest = ?2 and (state = 'approved' "
        "or state = 'pending' or (state = 'denied' and (turn = ?3 "
        "or message in (select message from inbox where turn = ?3)))) "
        "order by state = 'approved' desc, state = 'denied' desc, seq limit 1",
        (rows.plain(asked.conversation), asked.digest, asked.turn),
    ).fetchone()
    if known is None:
        return _insert(connection, asked, effects, now)
    if known["state"] == "pending":
        return _ask_again(connection, known, asked)
    return take(connection, known["id"], asked.turn, now) or rows.approval(known)


def _insert(
    connection: sqlite3.Connection, asked: Approval, effects: Iterable[NewEffect], now: float
) -> Approval | None:
    (pending,) = connection.execute(
        "select count(*) from approval where conversation = ? and state = 'pending' and tool != ?",
        (rows.plain(asked.conversation), RAISE),
    ).fetchone()
    if pending >= MOST_PENDING:
        return None
    _put(connection, asked, effects, AGENT, now)
    return asked


def _put(
    connection: sqlite3.Connection,
    asked: Approval,
    effects: Iterable[NewEffect],
    by: str,
    now: float,
) -> None:
    connection.execute(
        "insert into approval (id, conversation, connector, turn, tool, digest, input, requesters, "
        "state, asked_at) values (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
        (
            asked.id,
            rows.plain(asked.conversation),
            asked.connector,
            asked.turn,
            rows.plain(asked.tool),
            asked.digest,
            asked.input,
            _people(asked.requesters),
            now,
        ),
    )
    outbox.insert(connection, effects, turn=asked.turn, state="pending", now=now)
    _note(connection, asked, "approval asked", asked.tool, now)
    _audit(connection, asked, "approval.asked", by, asked.turn, now)


def _ask_again(connection: sqlite3.Connection, known: sqlite3.Row, asked: Approval) -> Approval:
    """The same call, of a later attempt or a later turn: one approval is for both."""
    requesters = rows.approval(known).requesters | asked.requesters
    connection.execute(
        "update approval set turn = ?, requesters = ? where id = ?",
        (asked.turn, _people(requesters), known["id"]),
    )
    return replace(rows.approval(known), turn=asked.turn, requesters=requesters)


def take(
    connection: sqlite3.Connection, id_: ApprovalId, turn: TurnId, now: float
) -> Approval | None:
    row = connection.execute(
        "update approval set state = iif(state = 'approved', 'used', state), taken_at = ? "
        "where id = ? and (state = 'approved' or state = 'denied') and taken_at is null "
        "returning *",
        (now, id_),
    ).fetchone()
    if row is None:
        row = connection.execute(
            "select * from approval where id = ? and state = 'pending'", (id_,)
        ).fetchone()
        return rows.approval(row) if row is not None else None
    taken = rows.approval(row)
    if row["state"] == "used":
        _note(connection, taken, "approval used", f"{taken.tool}, {turn}", now)
        _audit(connection, taken, "approval.used", AGENT, turn, now)
    return taken


# --- the daemon's own side -----------------------------------------------------------------------


def offer(
    connection: sqlite3.Connection, offered: Approval, effects: Iterable[NewEffect], now: float
) -> None:
    """Put a raise before people, with the post that shows it; once for its id."""
    if find(connection, offered.id) is None:
        _put(connection, offered, effects, DAEMON, now)


def _raise(connection: sqlite3.Connection, decided: Approval, by: str, now: float) -> None:
    """What is decided of a raise is done at once: no agent waits for it. Whoever was asked for the
    same elsewhere is not asked any more.
    """
    connection.execute(
        "update approval set state = iif(state = 'approved', 'used', state), taken_at = ? "
        "where id = ?",
        (now, decided.id),
    )
    if decided.state is ApprovalState.APPROVED:
        costs.raise_budget(connection, read_raise(decided.input), now, by)
        connection.execute(
            "update approval set state = 'expired' where state = 'pending' and tool = ? "
            "and digest = ?",
            (RAISE, decided.digest),
        )


# --- the person's side ---------------------------------------------------------------------------


def decide(
    connection: sqlite3.Connection,
    id_: ApprovalId,
    verdict: Verdict,
    effects: Iterable[NewEffect],
    now: float,
) -> Approval | None:
    state = "approved" if verdict.approved else "denied"
    row = connection.execute(
        "update approval set state = ?, decided_at = ?, decider = ?, decider_name = ?, words = ? "
        "where id = ? and state = 'pending' returning *",
        (
            state,
            now,
            rows.plain(verdict.by.id),
            rows.plain(verdict.by.name),
            rows.plain(verdict.words),
            id_,
        ),
    ).fetchone()
    if row is None:
        return None
    decided = rows.approval(row)
    outbox.insert(connection, effects, state="pending", now=now)
    _note(connection, decided, state, decided.tool, now)
    _audit(connection, decided, f"approval.{state}", verdict.by.id, decided.turn, now)
    if decided.tool == RAISE:
        _raise(connection, decided, verdict.by.id, now)
    else:
        _hand_over(connection, decided.turn, now)
    return decided


def turn_ended(connection: sqlite3.Connection, turn: str, now: float, *, stopped: bool) -> None:
    """What was decided and that turn did not take comes back. A person who stops a turn calls off
    what it asked for.
    """
    if not stopped:
        _hand_over(connection, turn, now)
        return
    called_off = connection.execute(
        "update approval set state = 'expired' where turn = ? "
        "and (state = 'pending' or state = 'approved') returning *",
        (turn,),
    ).fetchall()
    for row in called_off:
        expired = rows.approval(row)
        _note(connection, expired, "approval expired", expired.tool, now)


def _hand_over(connection: sqlite3.Connection, turn: str, now: float) -> None:
    found = connection.execute(
        "select * from approval where turn = ?1 and (state = 'approved' or state = 'denied') "
        "and taken_at is null and message is null and not exists (select 1 from turn "
        "where id = ?1 and (state = 'queued' or state = 'running')) order by seq",
        (turn,),
    ).fetchall()
    for row in found:
        message = _as_message(connection, row, now)
        if message is not None:
            registered = intake.register(connection, message, None, now)
            connection.execute(
                "update approval set message = ? where id = ?", (registered.message, row["id"])
            )


def _as_message(connection: sqlite3.Connection, row: sqlite3.Row, now: float) -> Message | None:
    """The word as a message of whoever gave it, where the conversation's last one was written; None
    where there is none any more.
    """
    last = connection.execute(
        f"select {rows.MESSAGE_COLUMNS} from inbox "
        "where conversation = ? and (state = 'claimed' or state = 'waiting') "
        "order by turn is ? desc, id desc limit 1",
        (row["conversation"], row["turn"]),
    ).fetchone()
    if last is None:
        return None
    return replace(
        rows.stored_message(last).message,
        outside_id=f"approval:{row['id']}",
        alternate_id=None,
        sender=Sender(row["decider"], row["decider_name"], Trust.OPERATOR),
        text=row["words"],
        sent_at=now,
        addressed=True,
        attachments=(),
        names=(),
        raw=None,
    )


# --- looking, and what goes ----------------------------------------------------------------------


def find(connection: sqlite3.Connection, id_: ApprovalId) -> Approval | None:
    row = connection.execute("select * from approval where id = ?", (id_,)).fetchone()
    return rows.approval(row) if row is not None else None


def pending(connection: sqlite3.Connection) -> tuple[JsonObject, ...]:
    """With their inputs, which an agent wrote: for whoever can read the data directory. No raises:
    nothing waits for them.
    """
    found = connection.execute(
        "select id, conversation, connector, turn, tool, input, requesters, asked_at "
        "from approval where state = 'pending' and tool != ? order by seq",
        (RAISE,),
    )
    return tuple({**dict(row), "requesters": rows.people(row)} for row in found)


def expire(connection: sqlite3.Connection, before: float) -> None:
    """What was asked so long ago: its agent's memory goes, too."""
    connection.execute(
        "update approval set state = 'expired' "
        "where (state = 'pending' or state = 'approved') and asked_at < ?",
        (before,),
    )


def _note(
    connection: sqlite3.Connection, approval: Approval, what: str, detail: str, now: float
) -> None:
    events.note(connection, now, approval.conversation, approval.id, what, detail)


def _audit(
    connection: sqlite3.Connection, approval: Approval, what: str, by: str, turn: str, now: float
) -> None:
    facts = {"approval": approval.id, "turn": turn, "tool": approval.tool}
    told = Audited(what, by, approval.conversation, facts, (approval.input,))
    audit.append(connection, now, told)


def _people(requesters: Iterable[str]) -> str:
    return rows.to_json([rows.plain(person) for person in sorted(requesters)])
