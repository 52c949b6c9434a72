"""What people see of the model's state."""

from __future__ import annotations

import pytest

from daemon.clock import ManualClock
from daemon.gateway.record import CallObserved, Outcome, Record, outcome_of
from daemon.model import Health, HealthState, Usage


def ended(outcome: Outcome, status: int) -> CallObserved:
    return CallObserved(outcome, status, "m", Usage(), 0.0, 1.0)


def health(record: Record, *, blocked: bool = False) -> Health:
    return record.health(spent_today=1.5, tokens=3, blocked=blocked)


async def test_a_failure_warns_until_a_call_succeeds() -> None:
    clock = ManualClock()
    record = Record(clock)
    assert health(record).state is HealthState.PASS
    record.note(ended(Outcome.OVERLOADED, 529))
    assert health(record).state is HealthState.WARN
    assert health(record).detail == "the last call failed: overloaded, status 529"
    await clock.advance(5)
    record.note(ended(Outcome.OK, 200))
    await clock.advance(7)
    assert (health(record).state, health(record).age) == (HealthState.PASS, 7.0)


def test_a_clock_that_jumps_back_hides_neither_a_success_nor_a_failure() -> None:
    clock = ManualClock()
    record = Record(clock)
    record.note(ended(Outcome.OVERLOADED, 529))
    clock.follow(-2 * 86_400)
    record.note(ended(Outcome.OK, 200))
    assert (health(record).state, health(record).age) == (HealthState.PASS, 0.0)
    clock.follow(-2 * 86_400)
    record.note(ended(Outcome.OVERLOADED, 529))
    assert health(record).state is HealthState.WARN


def test_what_the_client_or_a_budget_did_is_no_failure_of_the_api() -> None:
    record = Record(ManualClock())
    for outcome in (Outcome.CUT, Outcome.REFUSED, Outcome.INVALID):
        record.note(ended(outcome, 0))
    assert health(record).state is HealthState.PASS
    assert health(record, blocked=True).detail == "the daily budget is spent"


def test_a_refused_key_fails_until_the_key_is_taken_again() -> None:
    record = Record(ManualClock())
    assert record.note(ended(Outcome.KEY_REFUSED, 401))
    assert not record.note(ended(Outcome.KEY_REFUSED, 401))
    assert not record.note(ended(Outcome.UNREACHABLE, 0))
    assert health(record).state is HealthState.FAIL
    assert health(record).ready
    assert record.note(ended(Outcome.CUT, 200))
    assert not record.key_refused


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (401, Outcome.KEY_REFUSED),
        (403, Outcome.INVALID),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
        (529, Outcome.OVERLOADED),
    ],
)
def test_each_status_has_its_outcome(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome
