"""The limiter: when a call may go, by Slack's limits and by what Slack answered."""

from __future__ import annotations

import asyncio

import pytest

from connectors.slack.limits import Limited, Limiter
from daemon.clock import ManualClock

POST = "chat.postMessage"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> Limiter:
    return Limiter(clock)


async def wait_of(
    limiter: Limiter, channel: str = "C1", method: str = POST, team: str = "T1"
) -> float:
    """0 where the call went, else the seconds that it is told to wait."""
    try:
        await limiter.enter(team, method, channel)
    except Limited as error:
        return error.retry_after
    return 0.0


async def test_a_channel_takes_two_posts_at_once_and_then_one_a_second(
    clock: ManualClock, limiter: Limiter
) -> None:
    assert [await wait_of(limiter) for _ in range(3)] == [0, 0, pytest.approx(1.0)]
    assert await wait_of(limiter, "C2") == 0, "another channel has its own"
    assert await wait_of(limiter, team="T2") == 0, "and so has another workspace"
    await clock.advance(1.0)
    assert [await wait_of(limiter), await wait_of(limiter)] == [0, pytest.approx(1.0)]


async def test_one_post_a_second_never_waits(clock: ManualClock, limiter: Limiter) -> None:
    for _ in range(500):
        assert await wait_of(limiter) == 0
        await clock.advance(1.0)


async def test_a_workspace_takes_two_hundred_posts_a_minute(
    clock: ManualClock, limiter: Limiter
) -> None:
    went = sum([await wait_of(limiter, f"C{n}") == 0 for n in range(100)])
    assert went == 50
    await clock.advance(60)
    assert await wait_of(limiter, "C999") == 0


async def test_a_method_keeps_to_four_fifths_of_its_tier(
    clock: ManualClock, limiter: Limiter
) -> None:
    went = 0
    for _ in range(600):
        went += await wait_of(limiter, method="conversations.replies") == 0
        await clock.advance(0.1)
    assert 10 + 38 <= went <= 10 + 40, "tier 3 is 50 a minute; ten may go at once"


async def test_patient_calls_go_in_the_order_in_which_they_asked(
    clock: ManualClock, limiter: Limiter
) -> None:
    gone: list[tuple[int, float]] = []
    began = clock.monotonic()

    async def post(number: int) -> None:
        await limiter.enter("T1", POST, "C1", patience=10)
        gone.append((number, clock.monotonic() - began))

    posts = [asyncio.create_task(post(number)) for number in range(5)]
    await clock.advance(5)
    await asyncio.gather(*posts)
    assert gone == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]


async def test_a_refused_wait_takes_nothing(clock: ManualClock, limiter: Limiter) -> None:
    for _ in range(50):
        await wait_of(limiter)
    await clock.advance(1.0)
    assert await wait_of(limiter) == 0


async def test_a_429_closes_its_channel_until_slack_said(
    clock: ManualClock, limiter: Limiter
) -> None:
    limiter.close("T1", POST, "C1", 30)
    assert await wait_of(limiter) == pytest.approx(30)
    assert await wait_of(limiter, "C2") == 0
    await clock.advance(30)
    assert [await wait_of(limiter), await wait_of(limiter)] == [0, pytest.approx(1.0)]
