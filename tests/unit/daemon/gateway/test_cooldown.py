"""One back-off for all calls: who waits, who goes ahead, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from daemon.clock import SystemClock
from daemon.gateway.cooldown import LONGEST_SECONDS, Cooldown, Pass, seconds_of


async def admitted(cooldown: Cooldown) -> Pass:
    async with asyncio.timeout(10):
        leave = await cooldown.enter()
    assert isinstance(leave, Pass), leave
    return leave


class Hands:
    """A clock that stands still until it is set; waits are real ones, and short."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


async def test_while_all_is_well_nobody_waits_for_anybody() -> None:
    cooldown = Cooldown(SystemClock())
    first, second = await admitted(cooldown), await admitted(cooldown)
    cooldown.heard(first, 200)
    cooldown.heard(second, 200)
    assert cooldown.seconds == 0


async def test_after_a_refusal_one_goes_ahead_and_the_others_follow_its_answer() -> None:
    cooldown = Cooldown(SystemClock())
    cooldown.heard(await admitted(cooldown), 429, retry_after=0.05)
    assert 0 < cooldown.seconds < 0.2
    waiting = [asyncio.create_task(cooldown.enter()) for _ in range(3)]
    done, held = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(held)) == (1, 2), "one asks, and the others wait for what it hears"
    ahead = done.pop().result()
    assert isinstance(ahead, Pass)
    cooldown.heard(ahead, 200)
    async with asyncio.timeout(5):
        assert all(isinstance(leave, Pass) for leave in await asyncio.gather(*held))
    assert cooldown.seconds == 0


async def test_one_that_is_always_refused_lets_the_others_ask_before_it_asks_again() -> None:
    cooldown = Cooldown(SystemClock())
    cooldown.heard(await admitted(cooldown), 429, retry_after=0.02)
    asked: list[str] = []

    async def ask(name: str, status: int) -> None:
        for _ in range(3):
            leave = await admitted(cooldown)
            asked.append(name)
            cooldown.heard(leave, status, retry_after=0.02)
            if status == 200:
                return

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name, status in (("too large", 429), ("also", 429), ("small", 200)):
            group.create_task(ask(name, status))
    assert asked[:3] == ["too large", "also", "small"]


async def test_one_that_went_ahead_and_was_cut_off_keeps_nobody_waiting() -> None:
    cooldown = Cooldown(SystemClock())
    cooldown.heard(await admitted(cooldown), 529, retry_after=0.02)
    cooldown.leave(await admitted(cooldown))
    assert (await admitted(cooldown)).ahead, "the next one sees how it is"


async def test_waits_grow_and_those_refused_together_count_once() -> None:
    hands = Hands()
    cooldown = Cooldown(hands)
    together = [await admitted(cooldown) for _ in range(8)]
    for leave in together:
        cooldown.heard(leave, 529)
    assert cooldown.seconds <= 1.0
    rests = [cooldown.seconds]
    for _ in range(9):
        hands.at += cooldown.seconds
        cooldown.heard(await admitted(cooldown), 529)
        rests.append(cooldown.seconds)
    assert rests[:6] == sorted(rests[:6])
    assert rests[5] > 16 * rests[0]
    assert all(0.8 * LONGEST_SECONDS <= rest <= LONGEST_SECONDS for rest in rests[7:])


async def test_what_the_api_asks_for_is_never_undercut() -> None:
    cooldown = Cooldown(Hands())
    first, second = await admitted(cooldown), await admitted(cooldown)
    cooldown.heard(first, 429, retry_after=300)
    cooldown.heard(second, 429)
    assert cooldown.seconds >= 300
    cooldown.heard(second, 200)
    assert cooldown.seconds >= 300, "an answer that was under way says nothing of now"


async def test_a_rest_that_is_longer_than_a_call_can_be_held_is_told_at_once() -> None:
    cooldown = Cooldown(Hands(), held=60)
    cooldown.heard(await admitted(cooldown), 429, retry_after=90)
    async with asyncio.timeout(1):
        again = await cooldown.enter()
    assert isinstance(again, float)
    assert again >= 90


async def test_a_call_is_held_no_longer_than_its_client_waits() -> None:
    hands = Hands()
    cooldown = Cooldown(hands, held=0.1)
    cooldown.heard(await admitted(cooldown), 429)
    hands.at += 1
    await admitted(cooldown)  # it goes ahead, and hears nothing
    held = asyncio.create_task(cooldown.enter())
    await asyncio.sleep(0)
    assert not held.done()
    hands.at += 1
    async with asyncio.timeout(5):
        assert isinstance(await held, float)


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3), ("0.5", 0.5), (None, 0), ("soon", 0), ("-1", 0), ("", 0)]
)
def test_retry_after_is_seconds(header: str | None, seconds: float) -> None:
    assert seconds_of(header) == seconds
