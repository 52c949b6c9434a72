"""What the database itself forbids, whatever the code above it does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.ledger import costs, migrations, open_ledger
from tests.ledgers import IMPLEMENTATIONS, Stage

DAY = 86_400.0
TURN = (
    "insert into turn (id, conversation, connector, trust, state, epoch, workspace, claimed_at) "
    "values (?, 't1', 'chat', 'member', ?, 1, 'ws', 0)"
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        migrations.migrate(connection)
        yield connection


@pytest.mark.parametrize("states", [("running", "running"), ("queued", "running")])
def test_two_turns_of_one_conversation_cannot_be(
    database: sqlite3.Connection, states: tuple[str, str]
) -> None:
    database.execute(TURN, ("turn-0", "done"))
    database.execute(TURN, ("turn-1", states[0]))
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(TURN, ("turn-2", states[1]))


def test_a_state_that_is_none_cannot_be_written(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(TURN, ("turn-1", "half done"))


async def test_a_number_is_never_given_twice_though_retention_emptied_the_table(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    stage = Stage(IMPLEMENTATIONS[0], tmp_path, await open_ledger(tmp_path, clock), clock)

    def numbers() -> list[int]:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            found = connection.execute(
                "select id from inbox union all select seq from turn "
                "union all select seq from outbox"
            )
            return [row[0] for row in found]

    for _ in range(3):
        await stage.sent()
    before = numbers()
    await stage.clock.advance(100 * DAY)
    now = clock.now()
    await stage.ledger.retain(records_before=now, workspaces_before=now, keys_before=now)
    assert numbers() == []
    await stage.sent(conversation="t2")
    assert min(numbers()) > max(before)
    await stage.ledger.close()


def test_the_ledger_at_a_glance_reads_no_history(database: sqlite3.Connection) -> None:
    """It is asked every two seconds: each of its questions must go by an index of open things."""
    asked: list[str] = []
    database.row_factory = sqlite3.Row
    database.set_trace_callback(asked.append)
    costs.counts(database, 0.0)
    database.set_trace_callback(None)
    plans = {
        statement: [row[3] for row in database.execute(f"explain query plan {statement}")]
        for statement in asked
    }
    open_things = (
        *("inbox_open", "inbox_unreadable", "turn_one", "turn_dead", "outbox_", "cost_day"),
        "approval_pending",
    )
    for statement, plan in plans.items():
        read = [plan[0] if "LIST SUBQUERY" not in " ".join(plan) else plan[-1]]
        if "UNION ALL" in plan:
            read = [step for step in plan if step.startswith(("SCAN outbox", "SEARCH outbox"))]
        for step in read:
            assert any(index in step for index in open_things), (statement, plan)
