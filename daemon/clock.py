"""Time, as a port: the flow asks this and nothing else, so that tests can turn the hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

JUMP_SECONDS = 60.0
DAY_SECONDS = 86_400.0


def day_of(at: float) -> int:
    """The UTC day of a time, counted from the Unix epoch."""
    return int(at // DAY_SECONDS)


def next_day(at: float) -> float:
    """When the UTC day after this time begins."""
    return (day_of(at) + 1) * DAY_SECONDS


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the Unix epoch: for records that outlive the process."""

    def monotonic(self) -> float:
        """Seconds that never jump: for deadlines within the process."""

    async def sleep(self, seconds: float) -> None: ...


class JumpingClock(Clock, Protocol):
    """One that keeps the jumps of the system's time from `now`, until somebody takes them over."""

    def jumped(self) -> float:
        """Seconds by which the system's time has jumped away from `now`; 0.0: it has not."""

    def follow(self, seconds: float) -> None:
        """Take a jump over into `now`."""


class SystemClock:
    """The system's time, less its jumps: a jump reaches `now` only by `follow`, when what waits by
    this time has been moved along. What the machine slept (CLOCK_BOOTTIME) is no jump.
    """

    def __init__(self, system: Callable[[], float] = time.time) -> None:
        self._system = system
        self._epoch = system() - _since_boot()

    def now(self) -> float:
        ahead = self._ahead()
        if abs(ahead) < JUMP_SECONDS:  # a clock that is being set right, step by small step
            self._epoch += ahead
        return self._epoch + _since_boot()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jumped(self) -> float:
        ahead = self._ahead()
        return ahead if abs(ahead) >= JUMP_SECONDS else 0.0

    def follow(self, seconds: float) -> None:
        self._epoch += seconds

    def _ahead(self) -> float:
        return self._system() - _since_boot() - self._epoch


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock that stands still until `advance`; sleepers wake in order. For tests."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._followed = 0.0  # by how much `now` is ahead of the hand, after jumps
        self._ahead = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now + self._followed

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        waker = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + max(seconds, 0.0), waker))
        await waker

    def jumped(self) -> float:
        return self._ahead

    def follow(self, seconds: float) -> None:
        self._followed += seconds
        self._ahead -= seconds

    def jump(self, seconds: float) -> None:
        """The system's time jumps."""
        self._ahead += seconds

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, waking each sleeper at its own moment and letting it run."""
        end = self._now + seconds
        await _let_run()
        while due := [at for at, waker in self._sleepers if at <= end and not waker.done()]:
            self._now = max(self._now, min(due))
            for at, waker in self._sleepers:
                if at <= self._now and not waker.done():
                    waker.set_result(None)
            self._sleepers = [(at, waker) for at, waker in self._sleepers if not waker.done()]
            await _let_run()
        self._now = end


async def _let_run() -> None:
    """Give every task that can run its turns; 20 is more than any chain of wake-ups here needs."""
    for _ in range(20):
        await asyncio.sleep(0)
