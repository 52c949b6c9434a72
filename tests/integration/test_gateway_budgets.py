"""Money is bounded: per turn, per UTC day, over restarts, attempts and many calls at once."""

from __future__ import annotations

import asyncio
import json

import pytest

from daemon.gateway import Outcome
from daemon.gateway.caps import DAY
from daemon.ports import Refusal
from tests.integration.gateway_help import Book, ask, on_a_day, rig, turn

NOON = 20_000 * DAY + DAY / 2
DEAR = ask("[[say:" + "word " * 200 + "]]", model="claude-opus-4-1")


async def test_a_turn_over_its_budget_may_ask_no_more() -> None:
    async with rig(per_turn=0.001) as world:
        token = world.token(turn("spent"))
        assert (await world.say(token, DEAR))[0] == 200
        status, body = await world.say(token, DEAR)
        error = json.loads(body)["error"]
        assert (status, error) == (403, {"type": "permission_error", "message": "budget: per_turn"})
        assert len(world.model.journal) == 1
        assert await world.gateway.close_turn(token) == Refusal("per_turn")
        assert [(seen.outcome, seen.scope) for seen in world.observed] == [
            (Outcome.OK, ""),
            (Outcome.REFUSED, "per_turn"),
        ]
        assert len(world.book.calls) == 1


async def test_the_next_turn_has_a_budget_of_its_own() -> None:
    async with rig(per_turn=0.001) as world:
        token = world.token(turn("first"))
        await world.say(token, DEAR)
        await world.gateway.close_turn(token)
        world.gateway.open_turn(token, turn("second"))
        assert (await world.say(token, DEAR))[0] == 200
        assert await world.gateway.close_turn(token) is None


async def test_earlier_attempts_of_a_turn_count() -> None:
    book = Book(by_turn={"again": 0.9, "cheap": 0.1})
    async with rig(per_turn=0.5, book=book) as world:
        again, cheap = world.token(turn("again", attempt=2)), world.token(turn("cheap", attempt=2))
        assert (await world.say(again))[0] == 403
        assert (await world.say(cheap))[0] == 200
        assert await world.gateway.close_turn(again) == Refusal("per_turn")


async def test_all_turns_share_the_day_and_it_ends_at_midnight_utc() -> None:
    async with on_a_day(NOON, daily=0.01) as (world, clock):
        first, second = world.token(turn("a")), world.token(turn("b"))
        assert (await world.say(first, DEAR))[0] == 200
        assert world.gateway.blocked() == Refusal("daily")
        status, body = await world.say(second, DEAR)
        assert (status, json.loads(body)["error"]["message"]) == (403, "budget: daily")
        assert await world.gateway.close_turn(second) == Refusal("daily")
        assert await world.gateway.close_turn(first) is None
        assert world.gateway.health().detail == "the daily budget is spent"
        await clock.advance(DAY / 2 - 1)
        assert world.gateway.blocked() == Refusal("daily")
        await clock.advance(1)
        assert world.gateway.blocked() is None
        world.gateway.open_turn(second, turn("c"))
        assert (await world.say(second, DEAR))[0] == 200


async def test_what_was_spent_before_a_restart_counts() -> None:
    async with on_a_day(NOON, daily=1.0) as (world, _):
        assert world.book.asked_since == [20_000 * DAY]
        await world.gateway.stop()
        world.book.before = 1.5
        await world.gateway.start()
        assert world.gateway.blocked() == Refusal("daily")
        assert world.gateway.health().numbers["spent_today_usd"] == 1.5


async def test_a_call_over_midnight_belongs_to_the_day_on_which_it_began() -> None:
    async with on_a_day(NOON, daily=0.01) as (world, clock):
        token, gate = world.token(turn()), world.model.hold()
        asking = asyncio.ensure_future(world.say(token, DEAR))
        await gate.arrived()
        await clock.advance(DAY)
        gate.release()
        assert (await asking)[0] == 200
        assert world.gateway.blocked() is None
        await world.gateway.close_turn(token)
        assert world.book.calls[0].started_at == NOON
        assert world.book.calls[0].cost > 0.01


async def test_many_calls_at_once_cannot_all_pass_below_a_cap() -> None:
    async with rig(per_turn=0.3) as world:
        token, gate = world.token(turn()), world.model.hold()
        one = asyncio.ensure_future(world.say(token, DEAR))
        await gate.arrived()
        assert (await world.say(token, DEAR))[0] == 403
        gate.release()
        assert (await one)[0] == 200


async def test_a_call_is_never_cut_off_for_its_price() -> None:
    async with rig(per_turn=0.0001) as world:
        token = world.token(turn())
        status, body = await world.say(token, DEAR)
        assert status == 200
        assert b"message_stop" in body
        assert await world.gateway.close_turn(token) is None


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_failed_calls_cost_nothing(status: int) -> None:
    async with rig(per_turn=0.0001) as world:
        token = world.token(turn())
        world.model.fail(status, times=3)
        for _ in range(3):
            assert (await world.say(token, DEAR))[0] == status
        assert (await world.say(token, DEAR))[0] == 200


async def test_counting_tokens_is_free_and_passes() -> None:
    async with rig(per_turn=0.001) as world:
        token = world.token(turn())
        await world.say(token, DEAR)
        async with world.post(token, DEAR, "/v1/messages/count_tokens") as answer:
            assert answer.status == 200
            assert (await answer.json())["input_tokens"] > 0
        assert len(world.observed) == 1
