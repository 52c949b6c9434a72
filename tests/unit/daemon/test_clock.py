from __future__ import annotations

import asyncio
import time

from daemon.clock import ManualClock, SystemClock, next_day


async def test_the_systems_clock_is_the_systems() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 5
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01


async def test_a_hand_turned_clock_wakes_each_sleeper_at_its_own_moment_in_order() -> None:
    clock = ManualClock(start=100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.now()))

    tasks = [
        asyncio.create_task(sleeper("late", 9)),
        asyncio.create_task(sleeper("often", 2, 2, 2)),
        asyncio.create_task(sleeper("never", 1000)),
    ]
    await clock.advance(5)
    assert woken == [("often", 102.0), ("often", 104.0)]
    assert clock.now() == clock.monotonic() == 105.0
    await clock.advance(5)
    assert woken[2:] == [("often", 106.0), ("late", 109.0)]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_stands_still_by_itself() -> None:
    clock = ManualClock()
    at = clock.now()
    await asyncio.sleep(0.01)
    assert clock.now() == at


def test_a_jump_of_the_systems_time_is_kept_from_now_until_it_is_followed() -> None:
    jumps = [0.0]
    clock = SystemClock(lambda: time.time() + jumps[-1])
    for jump in (2 * 86_400.0, -2 * 86_400.0):
        jumps.append(jumps[-1] + jump)
        assert abs(clock.now() - (time.time() + jumps[-2])) < 5
        assert abs(clock.jumped() - jump) < 5
        clock.follow(clock.jumped())
        assert clock.jumped() == 0.0
        assert abs(clock.now() - (time.time() + jumps[-1])) < 5


def test_a_clock_that_is_set_right_by_seconds_is_followed_at_once() -> None:
    ahead = [0.0]
    clock = SystemClock(lambda: time.time() + ahead[0])
    for step in range(10):
        ahead[0] = step * 30.0
        assert abs(clock.now() - time.time() - ahead[0]) < 5
        assert clock.jumped() == 0.0


def test_a_day_begins_at_midnight_utc() -> None:
    assert next_day(86_400.0 * 3) == 86_400.0 * 4
    assert next_day(86_400.0 * 3 - 0.5) == 86_400.0 * 3
