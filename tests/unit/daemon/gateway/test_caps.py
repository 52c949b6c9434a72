"""The sums behind the caps."""

from __future__ import annotations

from daemon.clock import ManualClock
from daemon.gateway.caps import DAY, Caps, Purse
from daemon.ports import Refusal

MORNING = 20_000 * DAY + 100.0


async def caps(
    per_turn: float | None = None, daily: float | None = None, before: float = 0.0
) -> tuple[Caps, ManualClock]:
    clock = ManualClock(MORNING)
    made = Caps(clock, per_turn, daily)

    async def spent(since: float) -> float:
        return before

    await made.load(spent)
    return made, clock


async def test_no_limits_refuse_nothing() -> None:
    made, _ = await caps()
    purse = Purse()
    made.settle(purse, 0.0, 1e9, MORNING)
    assert made.judge(purse) is None
    assert made.blocked() is None


async def test_a_cap_is_reached_when_it_is_spent_to_the_cent() -> None:
    made, _ = await caps(per_turn=1.0, daily=2.0)
    purse, other = Purse(), Purse()
    made.settle(purse, 0.0, 0.75, MORNING)
    assert made.judge(purse) is None
    made.settle(purse, 0.0, 0.25, MORNING)
    assert made.judge(purse) == Refusal("per_turn")
    assert made.judge(other) is None
    made.settle(other, 0.0, 1.0, MORNING)
    assert made.judge(Purse()) == Refusal("daily")


async def test_what_is_held_counts_until_it_is_settled() -> None:
    made, _ = await caps(per_turn=1.0, daily=1.5)
    purse, other = Purse(), Purse()
    made.hold(purse, 1.0)
    assert made.judge(purse) == Refusal("per_turn")
    made.hold(other, 0.5)
    assert made.blocked() == Refusal("daily")
    made.settle(purse, 1.0, 0.25, MORNING)
    made.settle(other, 0.5, 0.25, MORNING)
    assert made.spent_today == 0.5
    assert made.judge(purse) is None


async def test_the_first_refusal_of_a_turn_is_the_one_that_is_told() -> None:
    made, clock = await caps(daily=1.0, before=1.0)
    purse = Purse()
    assert made.judge(purse) == Refusal("daily")
    await clock.advance(DAY)
    assert made.judge(purse) is None
    assert purse.refusal == Refusal("daily")


async def test_a_new_day_begins_with_nothing_spent() -> None:
    made, clock = await caps(daily=1.0, before=0.75)
    assert made.spent_today == 0.75
    await clock.advance(DAY - 101)
    assert made.spent_today == 0.75
    await clock.advance(1)
    assert made.spent_today == 0.0


async def test_yesterdays_call_is_not_todays_money() -> None:
    made, clock = await caps(per_turn=1.0, daily=1.0)
    purse = Purse()
    await clock.advance(DAY)
    made.settle(purse, 0.0, 5.0, MORNING)
    assert made.spent_today == 0.0
    assert made.judge(purse) == Refusal("per_turn")
