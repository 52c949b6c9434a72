from __future__ import annotations

import pytest

from daemon.budgets import Budget, Limits, Scope, read_budget


@pytest.mark.parametrize(
    "written",
    [
        "daily",
        "public_daily",
        "per_sender_daily:slack:T1:U1",
        "per_conversation:slack:T1:C1:1.1",
        "channel_daily:C1",
        "connector_daily:support",
    ],
)
def test_a_budget_is_read_as_it_is_written(written: str) -> None:
    assert str(read_budget(written)) == written


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("weekly", "there is no budget 'weekly'; there are per_conversation, "),
        ("", "there is no budget ''"),
        ("per_turn:t", "ends with the turn"),
        ("daily:x", "write only daily"),
        ("per_sender_daily", "say whose: per_sender_daily:ID"),
    ],
)
def test_what_is_no_budget_is_told_with_what_to_write(written: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_budget(written)


def test_every_scope_has_its_limit() -> None:
    limits = Limits(1.0, 2.0, 3.0, 4.0, 5.0, channels={"C1": 6.0}, connectors={"slack": 7.0})
    found = {scope: limits.of(Budget(scope, "C1")) for scope in Scope}
    assert list(found.values()) == [1.0, 2.0, 3.0, 6.0, None, 4.0, 5.0]
    assert limits.of(Budget(Scope.CONNECTOR, "slack")) == 7.0


def test_a_turn_waits_for_a_daily_budget_alone() -> None:
    assert [scope for scope in Scope if not scope.daily] == [Scope.TURN, Scope.CONVERSATION]
