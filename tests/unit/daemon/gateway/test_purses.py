"""The sums behind the budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daemon.budgets import Budget, Limits, Raise, Scope, drawn_on
from daemon.clock import DAY_SECONDS, ManualClock
from daemon.gateway.purses import Nearing, Purse, Purses
from daemon.model import Trust
from daemon.ports import Refusal
from tests.integration.gateway_help import turn

MORNING = 20_000 * DAY_SECONDS + 100.0
DAILY = Budget(Scope.ALL)
TURN = turn("t")
PER_TURN = Budget(Scope.TURN, "t")


class Till:
    """Purses over a ledger that knows what was `booked`."""

    def __init__(self, limits: Limits, **booked: float) -> None:
        self.clock = ManualClock(MORNING)
        self.booked = {Budget(Scope(scope)): dollars for scope, dollars in booked.items()}
        self.news: list[Nearing] = []
        self.purses = Purses(self.clock, limits, self._spent, self.news.append)

    async def _spent(self, budgets: Sequence[Budget], since: float) -> tuple[float, ...]:
        assert since % DAY_SECONDS == 0
        return tuple(self.booked.get(budget, 0.0) for budget in budgets)

    async def paid_from(self, *budgets: Budget) -> tuple[Purse, ...]:
        return await self.purses.open(budgets)

    async def pay(self, cost: float, *budgets: Budget, at: float = MORNING) -> None:
        """A call that came to this, whatever it held."""
        purses = await self.paid_from(*budgets)
        held = await self.purses.reserve(TURN, purses, 0.0, 0.0)
        assert held == 0.0
        self.purses.settle(TURN, purses, 0.0, cost, at)

    async def ask(self, least: float, most: float, *budgets: Budget) -> float | Refusal | None:
        return await self.purses.reserve(TURN, await self.paid_from(*budgets), least, most)


def test_a_turn_is_paid_from_everything_that_it_belongs_to() -> None:
    stranger = turn("t", trust=Trust.PUBLIC)
    assert [str(budget) for budget in drawn_on(stranger, "C1")] == [
        "per_turn:t",
        "per_conversation:slack:T1:C1:1.1",
        "per_sender_daily:slack:T1:U1",
        "channel_daily:C1",
        "connector_daily:slack",
        "public_daily",
        "daily",
    ]
    assert not {Scope.PUBLIC, Scope.CHANNEL} & {each.scope for each in drawn_on(TURN, "")}


async def test_no_limits_refuse_nothing() -> None:
    till = Till(Limits())
    await till.pay(1e9, PER_TURN, DAILY)
    assert await till.ask(5.0, 1e9, PER_TURN, DAILY) == 1e9
    assert till.purses.blocked() is None
    assert till.news == []


async def test_a_call_holds_what_is_left_where_it_is_less_than_it_could_cost() -> None:
    till = Till(Limits(per_turn=1.0, daily=2.0))
    assert await till.ask(0.1, 0.6, PER_TURN, DAILY) == 0.6
    assert await till.ask(0.1, 0.6, PER_TURN, DAILY) == 0.4
    assert await till.ask(0.1, 5.0, DAILY) == 1.0


async def test_the_narrowest_budget_that_is_too_small_is_the_one_that_refuses() -> None:
    till = Till(Limits(per_turn=1.0, daily=2.0))
    await till.pay(0.75, PER_TURN, DAILY)
    assert await till.ask(0.3, 1.0, PER_TURN, DAILY) == Refusal(PER_TURN)
    assert await till.ask(0.3, 1.0, DAILY) == 1.0


async def test_the_first_call_that_does_not_fit_closes_a_budget() -> None:
    till = Till(Limits(daily=2.0))
    await till.pay(1.5, DAILY)
    assert till.purses.blocked() is None
    assert await till.ask(0.6, 0.6, DAILY) == Refusal(DAILY)
    assert await till.ask(0.1, 0.1, DAILY) == Refusal(DAILY)
    assert till.purses.blocked() == Refusal(DAILY)


async def test_a_call_waits_for_what_others_hold_and_then_gets_what_they_left() -> None:
    till = Till(Limits(daily=1.0))
    purses = await till.paid_from(DAILY)
    first = await till.purses.reserve(TURN, purses, 0.1, 5.0)
    assert first == 1.0
    second = asyncio.ensure_future(till.ask(0.4, 5.0, DAILY))
    await asyncio.sleep(0)
    assert not second.done()
    till.purses.settle(TURN, purses, 1.0, 0.25, MORNING)
    assert await second == 0.75
    assert till.purses.spent_today == 0.25


async def test_what_can_never_be_enough_is_not_waited_for() -> None:
    till = Till(Limits(daily=1.0), daily=0.75)
    assert await till.ask(0.1, 0.2, DAILY) == 0.2
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)


async def test_a_new_day_begins_with_nothing_spent_and_an_open_purse() -> None:
    till = Till(Limits(daily=1.0), daily=0.75)
    await till.paid_from(DAILY)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    await till.clock.advance(DAY_SECONDS - 101)
    assert (till.purses.spent_today, till.purses.blocked()) == (0.75, Refusal(DAILY))
    await till.clock.advance(1)
    assert (till.purses.spent_today, till.purses.blocked()) == (0.0, None)


async def test_a_conversations_budget_knows_no_days() -> None:
    talk = Budget(Scope.CONVERSATION, "c")
    till = Till(Limits(per_conversation=1.0))
    await till.pay(0.75, talk)
    await till.clock.advance(DAY_SECONDS)
    assert await till.ask(0.5, 0.5, talk) == Refusal(talk)


async def test_yesterdays_call_is_not_todays_money() -> None:
    till = Till(Limits(per_turn=1.0, daily=1.0))
    purses = await till.paid_from(PER_TURN, DAILY)
    held = await till.purses.reserve(TURN, purses, 0.1, 0.1)
    assert held == 0.1
    await till.clock.advance(DAY_SECONDS)
    till.purses.settle(TURN, purses, held, 5.0, MORNING)
    assert till.purses.spent_today == 0.0
    assert await till.ask(0.1, 0.1, PER_TURN) == Refusal(PER_TURN)


async def test_what_was_booked_before_is_known_and_asked_for_once() -> None:
    till = Till(Limits(daily=1.0), daily=0.75)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    till.booked[DAILY] = 0.0
    assert await till.ask(0.1, 0.1, DAILY) == Refusal(DAILY)


async def test_more_for_a_budget_opens_it_until_its_time_is_over() -> None:
    till = Till(Limits(daily=1.0), daily=0.9)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    till.purses.raise_by(Raise(DAILY, 1.0, MORNING + 60))
    assert till.purses.blocked() is None
    assert await till.ask(0.5, 5.0, DAILY) == 1.1
    (stated,) = [each for each in await till.purses.statements() if each.budget == DAILY]
    assert (stated.limit, stated.raised, stated.spent, stated.closed) == (2.0, 1.0, 0.9, False)
    await till.clock.advance(61)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)


async def test_other_limits_hold_from_the_next_call_on() -> None:
    till = Till(Limits(daily=1.0), daily=0.9)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    till.purses.limit(Limits(daily=2.0))
    assert await till.ask(0.5, 0.5, DAILY) == 0.5
    till.purses.limit(Limits())
    assert await till.ask(0.5, 50.0, DAILY) == 50.0


async def test_people_hear_of_each_share_once_a_day_and_limit() -> None:
    till = Till(Limits(daily=1.0))
    for cost in (0.5, 0.25, 0.1, 0.11):
        await till.pay(cost, DAILY)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    assert await till.ask(0.5, 0.5, DAILY) == Refusal(DAILY)
    assert [news.share for news in till.news] == [0.75, 0.95, 1.0]
    assert (till.news[0].budget, till.news[0].spent, till.news[0].limit) == (DAILY, 0.75, 1.0)
    await till.clock.advance(DAY_SECONDS)
    await till.pay(0.8, DAILY, at=MORNING + DAY_SECONDS)
    till.purses.limit(Limits(daily=1.05))
    await till.pay(0.0, DAILY)
    assert [news.share for news in till.news[3:]] == [0.75, 0.75]


async def test_of_a_turns_own_budget_nobody_is_warned() -> None:
    till = Till(Limits(per_turn=1.0))
    await till.pay(0.96, PER_TURN)
    assert await till.ask(0.5, 0.5, PER_TURN) == Refusal(PER_TURN)
    assert till.news == []


async def test_purses_that_nobody_used_for_a_day_are_let_go() -> None:
    till = Till(Limits(per_conversation=1.0))
    old, used = Budget(Scope.CONVERSATION, "old"), Budget(Scope.CONVERSATION, "used")
    await till.pay(0.5, old, used)
    for _ in range(3):
        await till.clock.advance(DAY_SECONDS)
        await till.pay(0.1, used)
    till.booked[old] = 0.75
    (stated,) = [each for each in await till.purses.statements() if each.budget.whose]
    assert stated.budget == used
    assert await till.ask(0.3, 0.3, old) == Refusal(old), "it is read from the ledger again"
