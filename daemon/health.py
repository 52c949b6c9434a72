"""Health: a registry of checks that read state and never own it. Rules: SURFACE, "HTTP"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from daemon.clock import Clock
from daemon.errors import LedgerError, OwnershipLost
from daemon.metrics import Metrics
from daemon.model import Health, HealthState
from daemon.ports import Counts, Ledger

log = structlog.get_logger()

COMMIT_EVERY_SECONDS = 2.0
COMMIT_YOUNGER_THAN_SECONDS = 5.0
BEAT_SECONDS = 0.25
BLOCKED_AFTER_SECONDS = 5.0

Check = Callable[[], Health]


@dataclass(frozen=True, slots=True)
class Report:
    """What `/readyz` and `/healthz` print. `waiting_for` names what is not ready."""

    ready: bool
    status: HealthState
    components: Mapping[str, Health]
    waiting_for: tuple[str, ...]


class HealthRegistry:
    """Components by name. `ready` of each one decides `/readyz`, `state` decides `/healthz`."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def report(self) -> Report:
        components = {name: _looked_at(name, check) for name, check in self._checks.items()}
        states = {health.state for health in components.values()}
        status = next(
            (s for s in (HealthState.FAIL, HealthState.WARN) if s in states), HealthState.PASS
        )
        waiting = tuple(name for name, health in components.items() if not health.ready)
        return Report(not waiting, status, components, waiting)


def _looked_at(name: str, check: Check) -> Health:
    """A check that breaks is a finding about its component, and hides none of the others."""
    try:
        return check()
    except Exception:
        log.exception("health.check_broke", component=name)
        return Health(HealthState.FAIL, "its check broke; see the log", ready=False)


class LedgerPulse:
    """Proves every two seconds that the ledger can commit, and counts what it holds."""

    def __init__(self, ledger: Ledger, clock: Clock, metrics: Metrics) -> None:
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._committed_at: float | None = None
        self._error = ""
        self.counts: Counts | None = None

    async def run(self) -> None:
        """Until cancelled. Raises OwnershipLost."""
        while True:
            await self.beat()
            await self._clock.sleep(COMMIT_EVERY_SECONDS)

    async def beat(self) -> None:
        try:
            await self._ledger.probe()
            self.counts = counts = await self._ledger.counts()
        except OwnershipLost:
            raise  # another daemon has the ledger: this one must end
        except LedgerError as error:
            self._committed_at, self._error = None, str(error)
            return
        self._committed_at, self._error = self._clock.monotonic(), ""
        self._metrics.queue_depth.set(counts.waiting)
        self._metrics.queue_oldest_age_seconds.set(counts.oldest_age)
        self._metrics.dead_letters.set(counts.dead_letters)
        self._metrics.approvals_pending.set(counts.approvals)

    @property
    def waiting(self) -> int:
        """Messages that wait for a turn, as of the last beat."""
        return self.counts.waiting if self.counts is not None else 0

    def health(self) -> Health:
        age = None if self._committed_at is None else self._clock.monotonic() - self._committed_at
        alive = age is not None and age < COMMIT_YOUNGER_THAN_SECONDS
        numbers: dict[str, float | int | str | bool | None] = {}
        if self.counts is not None:
            numbers = {
                "waiting": self.counts.waiting,
                "oldest_seconds": round(self.counts.oldest_age, 1),
                "running": self.counts.running,
                "queued": self.counts.queued,
                "dead_letters": self.counts.dead_letters,
                "approvals_pending": self.counts.approvals,
                "cost_today_usd": round(self.counts.cost_today, 4),
                **{f"outbox_{state}": number for state, number in self.counts.outbox.items()},
            }
        state, detail = HealthState.PASS, ""
        if not alive:
            state, detail = HealthState.FAIL, self._error or "no commit lately"
        if alive and self.counts is not None and self.counts.dead_letters:
            state, detail = HealthState.WARN, "dead letters wait: postroom dead list"
        return Health(state, detail, alive, age, numbers)


class LoopPulse:
    """Whether the event loop turns, and how late: for `/livez`. `progress` is told each time."""

    def __init__(
        self, clock: Clock, metrics: Metrics, progress: Callable[[], None] = lambda: None
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._progress = progress
        self.beat_at = clock.monotonic()
        self.lag = 0.0

    async def run(self) -> None:
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            self.beat_at = self._clock.monotonic()
            self.lag = max(0.0, self.beat_at - before - BEAT_SECONDS)
            self._metrics.event_loop_lag_seconds.set(self.lag)
            self._progress()

    def turns(self) -> bool:
        return self._clock.monotonic() - self.beat_at < BLOCKED_AFTER_SECONDS
