"""What the model cost, call by call, and the ledger at a glance."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from daemon.budgets import Budget, Raise, Scope
from daemon.clock import DAY_SECONDS, day_of
from daemon.ledger import audit, rows
from daemon.model import AGENT, COMMAND_LINE, RAISE, Audited, ConversationId, ModelCall
from daemon.ports import Counts, HeldUp

# Each is answered by an index that covers it: a day of many calls costs a look-up, no scan.
_PAID_FROM = {
    Scope.TURN: "turn = ?",
    Scope.CONVERSATION: "conversation = ?",
    Scope.SENDER: "booked_on = ?",
    Scope.CHANNEL: "channel = ?",
    Scope.CONNECTOR: "connector = ?",
    Scope.PUBLIC: "trust = 'public'",
    Scope.ALL: "true",
}


def book(connection: sqlite3.Connection, call: ModelCall, now: float) -> None:
    turn = connection.execute("select trust from turn where id = ?", (call.turn,)).fetchone()
    if turn is None:  # it was erased meanwhile: the money stays, and is nobody's
        call = replace(call, conversation=ConversationId(""), booked_on="", channel="")
    connection.execute(
        "insert into cost (conversation, turn, booked_on, connector, channel, trust, model, input, "
        "output, cache_read, cache_write, cost, status, started_at, seconds) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.conversation,
            call.turn,
            rows.plain(call.booked_on),
            call.connector,
            rows.plain(call.channel),
            turn["trust"] if turn is not None else "",
            rows.plain(call.model),
            call.usage.input,
            call.usage.output,
            call.usage.cache_read,
            call.usage.cache_write,
            call.cost,
            call.status,
            call.started_at,
            call.seconds,
        ),
    )
    facts = {"turn": call.turn, "model": call.model, "status": call.status, "dollars": call.cost}
    audit.append_late(connection, Audited("model.asked", AGENT, call.conversation, facts), now)


def spent(
    connection: sqlite3.Connection, budgets: Sequence[Budget], since: float
) -> tuple[float, ...]:
    return tuple(_spent(connection, budget, since) for budget in budgets)


def _spent(connection: sqlite3.Connection, budget: Budget, since: float) -> float:
    where = [_PAID_FROM[budget.scope]]
    values: list[object] = [] if budget.scope.shared else [rows.plain(budget.whose)]
    if budget.scope.daily:
        where.append("started_at >= ?")
        values.append(since)
    (dollars,) = connection.execute(
        f"select total(cost) from cost where {' and '.join(where)}", values
    ).fetchone()
    return float(dollars)


def raise_budget(
    connection: sqlite3.Connection, more: Raise, now: float, by: str = COMMAND_LINE
) -> None:
    connection.execute(
        "insert into budget_raise (scope, whose, dollars, until, at) values (?, ?, ?, ?, ?)",
        (more.budget.scope, rows.plain(more.budget.whose), more.dollars, more.until, now),
    )
    facts = {"scope": more.budget.scope, "dollars": more.dollars, "until": more.until}
    raised = Audited("budget.raised", by, facts=facts, about=more.budget.whose)
    audit.append(connection, now, raised)


def raises(connection: sqlite3.Connection, now: float) -> tuple[Raise, ...]:
    found = connection.execute(
        "select scope, whose, dollars, until from budget_raise where until is null or until > ? "
        "order by id",
        (now,),
    )
    return tuple(
        Raise(Budget(Scope(row["scope"]), row["whose"]), row["dollars"], row["until"])
        for row in found
    )


def probe(connection: sqlite3.Connection, now: float) -> None:
    connection.execute("update owner set probed_at = ?", (now,))


def _held_up(connection: sqlite3.Connection, now: float) -> dict[str, HeldUp]:
    found = connection.execute(
        "select connector, count(*) as number, min(since) as since, reason from ("
        "select connector, created_at as since, reason from outbox "
        "where state = 'pending' and attempts > 0 "
        "union all select connector, started_at, reason from outbox where state = 'sending'"
        ") group by connector"  # `reason` is that of the oldest: SQLite, "bare columns"
    )
    return {
        row["connector"]: HeldUp(row["number"], max(now - row["since"], 0.0), row["reason"])
        for row in found
    }


def counts(connection: sqlite3.Connection, now: float) -> Counts:
    """Each figure comes from an index that holds open things only: a full history costs nothing."""
    waiting, oldest = connection.execute(
        "select count(*), min(registered_at) from inbox "
        "where state = 'waiting' or state = 'unidentified'"
    ).fetchone()
    put_back = connection.execute(
        "select min(registered_at) from inbox where turn in "
        "(select id from turn where (state = 'queued' or state = 'running') and state = 'queued')"
    ).fetchone()[0]
    oldest = min((at for at in (oldest, put_back) if at is not None), default=None)
    turns = dict(
        tuple(row)
        for row in connection.execute(
            "select state, count(*) from turn where state = 'queued' or state = 'running' "
            "group by state"
        )
    )
    outbox = {
        state: connection.execute(
            f"select count(*) from outbox where state = '{state}'"
        ).fetchone()[0]
        for state in ("staged", "pending", "sending")
    }
    for state in ("unclear", "dead"):
        (outbox[state],) = connection.execute(
            "select count(*) from outbox where state = ? "
            "and (state = 'unclear' or state = 'dead') and discarded_at is null",
            (state,),
        ).fetchone()
    (dead_turns,) = connection.execute(
        "select count(*) from turn "
        "where state = 'dead' and discarded_at is null and retried_as is null"
    ).fetchone()
    (unreadable,) = connection.execute(
        "select count(*) from inbox where state = 'unreadable' and discarded_at is null"
    ).fetchone()
    (asked,) = connection.execute(
        "select count(*) from approval where state = 'pending' and tool != ?", (RAISE,)
    ).fetchone()
    return Counts(
        waiting=waiting,
        oldest_age=max(now - oldest, 0.0) if oldest is not None else 0.0,
        running=turns.get("running", 0),
        queued=turns.get("queued", 0),
        outbox=outbox,
        held_up=_held_up(connection, now),
        dead_letters=dead_turns + unreadable + outbox["unclear"] + outbox["dead"],
        cost_today=_spent(connection, Budget(Scope.ALL), day_of(now) * DAY_SECONDS),
        approvals=asked,
    )
