"""What the model cost, call by call, and the ledger at a glance."""

from __future__ import annotations

import sqlite3

from daemon.ledger import rows
from daemon.model import ModelCall, Trust, TurnId
from daemon.ports import Counts, HeldUp

DAY_SECONDS = 86400


def book(connection: sqlite3.Connection, call: ModelCall) -> None:
    turn = connection.execute("select trust from turn where id = ?", (call.turn,)).fetchone()
    connection.execute(
        "insert into cost (conversation, turn, booked_on, trust, model, input, output, cache_read, "
        "cache_write, cost, status, started_at, seconds) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.conversation,
            call.turn,
            rows.plain(call.booked_on),
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


def spent(
    connection: sqlite3.Connection, since: float, turn: TurnId | None, trust: Trust | None
) -> float:
    where, values = ["started_at >= ?"], [since]
    parameters: list[object] = [*values]
    if turn is not None:
        where.append("turn = ?")
        parameters.append(turn)
    if trust is not None:
        where.append("trust = ?")
        parameters.append(trust)
    row = connection.execute(
        f"select total(cost) from cost where {' and '.join(where)}",
        parameters,
    ).fetchone()
    return float(row[0])


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
        "select count(*) from approval where state = 'pending'"
    ).fetchone()
    return Counts(
        waiting=waiting,
        oldest_age=max(now - oldest, 0.0) if oldest is not None else 0.0,
        running=turns.get("running", 0),
        queued=turns.get("queued", 0),
        outbox=outbox,
        held_up=_held_up(connection, now),
        dead_letters=dead_turns + unreadable + outbox["unclear"] + outbox["dead"],
        cost_today=spent(connection, now // DAY_SECONDS * DAY_SECONDS, None, None),
        approvals=asked,
    )
