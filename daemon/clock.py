"""Time, as a port: the flow asks this and nothing else, so that tests can turn the hands."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the Unix epoch: for records that outlive the process."""

    def monotonic(self) -> float:
        """Seconds that never jump: for deadlines within the process."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance`; sleepers wake in order. For tests."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        waker = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + max(seconds, 0.0), waker))
        await waker

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
