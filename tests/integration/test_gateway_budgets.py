"""Money is bounded: by turn, conversation, sender, channel, way in, strangers and day; over
restarts, attempts and many calls at once.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from daemon.budgets import Budget, Limits, Raise, Scope
from daemon.clock import DAY_SECONDS
from daemon.gateway import Outcome
from daemon.model import Trust, Turn
from daemon.ports import Refusal
from tests.integration.gateway_help import Book, ask, on_a_day, rig, turn

DAY = 20_000 * DAY_SECONDS
NOON = DAY + DAY_SECONDS / 2
# Comes to $0.02 and holds $0.08: a thousand tokens of output, and the prompt.
DEAR = ask("[[say:" + "word " * 200 + "]]", model="claude-opus-4-1")
ONE = 0.1  # US dollars: enough for one such call, and too little for a second
DAILY = Budget(Scope.ALL)


async def test_a_turn_over_its_budget_may_ask_no_more() -> None:
    async with rig(limits=Limits(per_turn=ONE), model="claude-opus-4-1") as world:
        token = world.token(turn("spent"))
        assert (await world.say(token, DEAR))[0] == 200
        status, body = await world.say(token, DEAR)
        error = json.loads(body)["error"]
        assert (status, error) == (403, {"type": "permission_error", "message": "budget: per_turn"})
        assert len(world.model.journal) == 1
        assert await world.gateway.close_turn(token) == Refusal(Budget(Scope.TURN, "spent"))
        assert [(seen.outcome, seen.scope) for seen in world.observed] == [
            (Outcome.OK, ""),
            (Outcome.REFUSED, "per_turn"),
        ]
        assert len(world.book.calls) == 1


async def test_the_next_turn_has_a_budget_of_its_own() -> None:
    async with rig(limits=Limits(per_turn=ONE), model="claude-opus-4-1") as world:
        token = world.token(turn("first"))
        await world.say(token, DEAR)
        await world.gateway.close_turn(token)
        world.gateway.open_turn(token, turn("second"))
        assert (await world.say(token, DEAR))[0] == 200
        assert await world.gateway.close_turn(token) is None


async def test_earlier_attempts_of_a_turn_count() -> None:
    spent = {Budget(Scope.TURN, "again"): 0.9, Budget(Scope.TURN, "cheap"): 0.1}
    async with rig(limits=Limits(per_turn=0.5), book=Book(before=spent)) as world:
        again, cheap = world.token(turn("again", attempt=2)), world.token(turn("cheap", attempt=2))
        assert (await world.say(again))[0] == 403
        assert (await world.say(cheap))[0] == 200
        assert await world.gateway.close_turn(again) == Refusal(Budget(Scope.TURN, "again"))


@pytest.mark.parametrize(
    ("limits", "budget", "same", "other"),
    [
        (
            Limits(per_conversation=ONE),
            Budget(Scope.CONVERSATION, "slack:T1:C1:1.1"),
            turn("2", sender="slack:T1:U2"),
            turn("3", conversation="slack:T1:C1:2.2"),
        ),
        (
            Limits(per_sender_daily=ONE),
            Budget(Scope.SENDER, "slack:T1:U1"),
            turn("2", conversation="slack:T1:C2:2.2"),
            turn("3", sender="slack:T1:U2"),
        ),
        (
            Limits(channels={"C1": ONE}),
            Budget(Scope.CHANNEL, "C1"),
            turn("2", sender="slack:T1:U2", conversation="slack:T1:C1:2.2"),
            turn("3", channel="C2"),
        ),
        (
            Limits(public_daily=ONE),
            Budget(Scope.PUBLIC),
            turn("2", trust=Trust.PUBLIC, sender="slack:T1:U2", conversation="c2"),
            turn("3"),
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, Budget) else "",
)
async def test_each_budget_bounds_what_is_paid_from_it_and_nothing_else(
    limits: Limits, budget: Budget, same: Turn, other: Turn
) -> None:
    async with rig(limits=limits, model="claude-opus-4-1") as world:
        trust = Trust.PUBLIC if budget.scope is Scope.PUBLIC else Trust.MEMBER
        first = world.token(turn("1", trust=trust))
        assert (await world.say(first, DEAR))[0] == 200
        assert (await world.say(world.token(same), DEAR))[0] == 403
        assert (await world.say(world.token(other), DEAR))[0] == 200
        assert await world.gateway.refusal(same) == Refusal(budget)
        assert await world.gateway.refusal(other) is None
        assert [(news.budget, news.share) for news in world.nearing] == [(budget, 1.0)]


async def test_all_that_comes_one_way_has_a_budget_together() -> None:
    async with rig(limits=Limits(connectors={"slack": ONE}), model="claude-opus-4-1") as world:
        assert (await world.say(world.token(turn("1")), DEAR))[0] == 200
        other = turn("2", sender="slack:T1:U2", conversation="c2", channel="C2")
        assert (await world.say(world.token(other), DEAR))[0] == 403
        assert await world.gateway.refusal(other) == Refusal(Budget(Scope.CONNECTOR, "slack"))
        assert {call.connector for call in world.book.calls} == {"slack"}
        assert {call.channel for call in world.book.calls} == {"C1"}


async def test_all_turns_share_the_day_and_it_ends_at_midnight_utc() -> None:
    async with on_a_day(NOON, Limits(daily=ONE), model="claude-opus-4-1") as (world, clock):
        first, second = world.token(turn("a")), world.token(turn("b"))
        assert (await world.say(first, DEAR))[0] == 200
        assert world.gateway.blocked() is None
        status, body = await world.say(second, DEAR)
        assert (status, json.loads(body)["error"]["message"]) == (403, "budget: daily")
        assert world.gateway.blocked() == Refusal(DAILY)
        assert await world.gateway.close_turn(second) == Refusal(DAILY)
        assert await world.gateway.close_turn(first) is None
        assert world.gateway.health().detail == "the daily budget is spent"
        await clock.advance(DAY_SECONDS / 2 - 1)
        assert world.gateway.blocked() == Refusal(DAILY)
        await clock.advance(1)
        assert world.gateway.blocked() is None
        world.gateway.open_turn(second, turn("c"))
        assert (await world.say(second, DEAR))[0] == 200


async def test_what_was_spent_before_a_start_counts() -> None:
    book = Book(before={DAILY: 1.5})
    async with on_a_day(NOON, Limits(daily=1.0), book) as (world, _):
        assert world.book.asked_since == [DAY]
        assert world.gateway.blocked() == Refusal(DAILY)
        assert world.gateway.health().numbers["spent_today_usd"] == 1.5


async def test_more_for_a_budget_is_remembered_and_taken_up_at_once() -> None:
    talk = Budget(Scope.CONVERSATION, "slack:T1:C1:1.1")
    book = Book(before={talk: 1.0}, raised=(Raise(talk, 0.5, None),))
    async with rig(limits=Limits(per_conversation=1.0), book=book) as world:
        token = world.token(turn())
        assert (await world.say(token))[0] == 200
        world.gateway.limit(Limits(per_conversation=0.5))
        assert (await world.say(token))[0] == 403
        assert await world.gateway.refusal(turn()) == Refusal(talk)
        world.gateway.raise_by(Raise(talk, 0.5, None))
        assert await world.gateway.refusal(turn()) is None
        assert (await world.say(token))[0] == 200
        (stated,) = [each for each in await world.gateway.budgets() if each.budget == talk]
        assert (stated.limit, stated.raised) == (1.5, 1.0)


async def test_a_call_over_midnight_belongs_to_the_day_on_which_it_began() -> None:
    async with on_a_day(NOON, Limits(daily=ONE), model="claude-opus-4-1") as (world, clock):
        token, gate = world.token(turn()), world.model.hold()
        asking = asyncio.ensure_future(world.say(token, DEAR))
        await gate.arrived()
        await clock.advance(DAY_SECONDS)
        gate.release()
        assert (await asking)[0] == 200
        assert (await world.say(token, DEAR))[0] == 200, "nothing of the new day is spent"
        await world.gateway.close_turn(token)
        assert world.book.calls[0].started_at == NOON
        assert world.book.calls[0].cost > 0.01


async def test_a_call_writes_no_more_than_its_budgets_can_pay() -> None:
    async with rig(limits=Limits(per_turn=0.5), model="claude-opus-4-1") as world:
        token = world.token(turn())
        asked = ask("[[say:x]]", model="claude-opus-4-1", max_tokens=30_000)
        assert (await world.say(token, asked))[0] == 200
        most = world.model.journal[0].body["max_tokens"]
        assert 0.49 < most * 75 / 1_000_000 < 0.5
        assert (await world.say(token, ask(model="claude-opus-4-1")))[0] == 200
        assert world.model.journal[1].body["max_tokens"] == 1000


async def test_many_calls_at_once_cannot_go_beyond_a_budget_and_wait_for_each_other() -> None:
    async with rig(limits=Limits(per_turn=0.3), model="claude-opus-4-1") as world:
        token, gate = world.token(turn()), world.model.hold()
        asked = ask("[[say:x]]", model="claude-opus-4-1", max_tokens=30_000)
        one = asyncio.ensure_future(world.say(token, asked))
        await gate.arrived()
        two = asyncio.ensure_future(world.say(token, asked))
        await asyncio.sleep(0.05)
        assert len(world.model.journal) == 1, "the first one holds all that there is"
        gate.release()
        assert [status for status, _ in await asyncio.gather(one, two)] == [200, 200]


@pytest.mark.parametrize("calls", [1, 4])
async def test_whatever_is_asked_for_no_budget_is_overspent(calls: int) -> None:
    """An agent that never stops, with as many calls at once as it likes."""
    async with rig(limits=Limits(per_turn=0.25), model="claude-opus-4-1") as world:
        token = world.token(turn())
        sizes = [(50, 300), (3000, 30_000), (20, 2000), (800, 5000)]

        async def never_stop(first: int) -> None:
            for number in range(first, 1000):
                words, most = sizes[number % len(sizes)]
                text = f"[[say:{'word ' * words}]] {number}"
                body = ask(text, model="claude-opus-4-1", max_tokens=most)
                if (await world.say(token, body))[0] == 403:
                    return
            raise AssertionError("nothing stopped it")

        await asyncio.gather(*(never_stop(number) for number in range(calls)))
        await world.gateway.close_turn(token)
        spent = sum(call.cost for call in world.book.calls)
        assert 0.15 < spent <= 0.25


async def test_a_call_is_never_cut_off_for_its_price() -> None:
    async with rig(limits=Limits(per_turn=ONE), model="claude-opus-4-1") as world:
        token = world.token(turn())
        status, body = await world.say(token, DEAR)
        assert status == 200
        assert b"message_stop" in body
        assert await world.gateway.close_turn(token) is None


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_failed_calls_cost_nothing(status: int) -> None:
    async with rig(limits=Limits(per_turn=ONE), model="claude-opus-4-1") as world:
        token = world.token(turn())
        world.model.fail(status, times=3)
        for _ in range(3):
            assert (await world.say(token, DEAR))[0] == status
        assert (await world.say(token, DEAR))[0] == 200


async def test_counting_tokens_is_free_and_passes() -> None:
    async with rig(limits=Limits(per_turn=ONE), model="claude-opus-4-1") as world:
        token = world.token(turn())
        await world.say(token, DEAR)
        async with world.post(token, DEAR, "/v1/messages/count_tokens") as answer:
            assert answer.status == 200
            assert (await answer.json())["input_tokens"] > 0
        assert len(world.observed) == 1
