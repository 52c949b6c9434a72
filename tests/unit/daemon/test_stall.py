"""The watch over the loop: it says where one stands still, and ends one that stays so."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

from structlog.testing import capture_logs

from daemon.clock import SystemClock
from daemon.health import LoopPulse
from daemon.metrics import Metrics
from daemon.stall import StallWatch, stack_of

PATIENCE_SECONDS = 20.0

Log = list[MutableMapping[str, Any]]


@contextlib.asynccontextmanager
async def watched(watch: StallWatch, pulse: LoopPulse) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each()) for each in (watch.run, pulse.run)]
        await asyncio.sleep(0.3)  # a first beat
        yield
        for task in tasks:
            task.cancel()


def hold_the_loop_up(until: threading.Event) -> None:
    assert until.wait(PATIENCE_SECONDS)


def stand_still(logged: Log) -> None:
    """Hold the loop up until that is told of."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not stalls_of(stand_still, logged) and time.monotonic() < until:
        time.sleep(0.05)


def stalls_of(what: Callable[..., None], logged: Log) -> Log:
    """Of a machine without time there may be others, too."""
    stalled = [entry for entry in logged if entry["event"] == "loop.stalled"]
    return [entry for entry in stalled if any(what.__name__ in each for each in entry["stack"])]


async def test_a_loop_that_stands_still_is_told_of_with_the_place_where_it_stands() -> None:
    clock = SystemClock()
    pulse = LoopPulse(clock, Metrics())
    seen = threading.Event()

    def told(*_: object) -> None:
        seen.set()

    watch = StallWatch(lambda: pulse.beat_at, clock, look=0.05, stalled=0.5, given_up=1.0, end=told)
    with capture_logs() as logged:
        async with watched(watch, pulse):
            hold_the_loop_up(seen)
    assert len(stalls_of(hold_the_loop_up, logged)) == 1
    assert [entry["event"] for entry in logged if entry["log_level"] == "critical"] == [
        "loop.given_up"
    ]


async def test_a_loop_that_moves_on_is_let_be() -> None:
    clock = SystemClock()
    pulse = LoopPulse(clock, Metrics())
    ended: list[int] = []
    watch = StallWatch(
        lambda: pulse.beat_at, clock, look=0.05, stalled=0.4, given_up=60, end=ended.append
    )
    with capture_logs() as logged:
        async with watched(watch, pulse):
            stand_still(logged)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(entry["event"] == "loop.moved_on" for entry in logged):
                    await asyncio.sleep(0.05)
    assert len(stalls_of(stand_still, logged)) == 1
    assert ended == []


async def test_a_machine_that_slept_is_no_stall() -> None:
    class Slept(SystemClock):
        """Each look finds that another hour has gone: everything stood still, this clock too."""

        hours = itertools.count()

        def monotonic(self) -> float:
            return time.monotonic() + 3600 * next(self.hours)

    ended: list[int] = []
    watch = StallWatch(lambda: 0.0, Slept(), look=0.01, end=ended.append)
    task = asyncio.create_task(watch.run())
    with capture_logs() as logged:
        await asyncio.sleep(0.3)
    task.cancel()
    assert (logged, ended) == ([], [])


def test_a_stack_has_places_and_no_values() -> None:
    secret = "xoxb-canary"
    stack = stack_of(threading.get_ident())
    assert any(frame.endswith("test_a_stack_has_places_and_no_values") for frame in stack)
    assert secret not in str(stack)
    assert stack_of(-1) == []
