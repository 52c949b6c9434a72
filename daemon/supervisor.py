"""Starts services, restarts them within a decaying budget, and stops them.

The budget is suture's decaying count; leaving when it is used up is OTP's escalation. A known
outage (Unavailable) is waited out and not counted; refused credentials park the service.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from daemon.clock import Clock
from daemon.errors import (
    AuthenticationFailed,
    ConfigError,
    Escalation,
    LedgerError,
    OwnershipLost,
    Unavailable,
    WallError,
)
from daemon.metrics import Metrics

log = structlog.get_logger()

Serve = Callable[[], Awaitable[None]]


class ServiceState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"  # between a failure and the restart
    PARKED = "parked"  # credentials refused: somebody must act


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Failures count 1 each and halve every `half_life` seconds; above `threshold` we escalate."""

    threshold: float = 5.0
    half_life: float = 30.0
    first_wait: float = 0.1
    max_wait: float = 5.0
    outage_wait: float = 60.0

    @property
    def blind_spot(self) -> float:
        """Failures spaced wider than this many seconds never escalate: waits must stay below it."""
        return self.half_life * math.log2(self.threshold / (self.threshold - 1))


class Supervisor:
    """Runs services until it is cancelled or one of them escalates."""

    def __init__(self, clock: Clock, metrics: Metrics, policy: RestartPolicy | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._policy = policy or RestartPolicy()
        self.states: dict[str, ServiceState] = {}
        self.reasons: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resumed = asyncio.Event()

    async def run(self, services: Mapping[str, Serve]) -> None:
        """Run all until cancelled. Raises Escalation (in an ExceptionGroup)."""
        async with asyncio.TaskGroup() as group:
            for name, serve in services.items():
                self._tasks[name] = group.create_task(self.supervise(name, serve), name=name)

    async def stop(self, *names: str) -> None:
        """Cancel some services and wait until they have ended."""
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def resume(self) -> None:
        """Try all parked services again: somebody may have acted."""
        self._resumed.set()
        self._resumed = asyncio.Event()

    async def supervise(self, name: str, serve: Serve) -> None:
        """Run one service until cancelled. Raises Escalation, ConfigError, WallError,
        OwnershipLost.
        """
        policy, clock = self._policy, self._clock
        count, last, wait = 0.0, clock.monotonic(), policy.first_wait
        while True:
            started = clock.monotonic()
            self.states[name] = ServiceState.RUNNING
            try:
                await _live(serve)
                failure: Exception = RuntimeError("returned before it was asked to stop")
            except (ConfigError, WallError, OwnershipLost):
                raise  # no restart can mend these: the daemon ends with their exit status
            except AuthenticationFailed as error:
                self.states[name], self.reasons[name] = ServiceState.PARKED, str(error)
                log.error("service.parked", service=name, reason=str(error))  # noqa: TRY400
                await self._resumed.wait()
                log.info("service.resumed", service=name)
                continue
            except Exception as error:  # noqa: BLE001 - the supervision boundary
                failure = error
            now = clock.monotonic()
            if now - started > policy.half_life:  # it ran well for a while: start the waits afresh
                wait = policy.first_wait
            self.states[name], self.reasons[name] = ServiceState.WAITING, str(failure)
            if isinstance(failure, Unavailable | LedgerError):  # a full disk is waited out, too
                log.warning("service.unavailable", service=name, reason=str(failure))
                pause = getattr(failure, "retry_after", 0.0) or wait
                wait = min(2 * wait, policy.outage_wait)
            else:
                count = count * 0.5 ** ((now - last) / policy.half_life) + 1
                last = now
                self._metrics.restarts.labels(name).inc()
                log.error("service.failed", service=name, count=round(count, 2), exc_info=failure)
                if count > policy.threshold:
                    raise Escalation(f"{name} used up its restarts") from failure
                pause, wait = wait, min(2 * wait, policy.max_wait)
            await clock.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311 - jitter


async def _live(serve: Serve) -> None:
    """One life of a service, in a task of its own: what was told to end has ended, whatever it says
    on its way out. Its own task's cancel count proves nothing: a task group that fails leaves it
    raised (measured, Python 3.11).
    """

    async def one() -> None:
        await serve()

    life = asyncio.create_task(one())
    try:
        await asyncio.wait({life})
    except asyncio.CancelledError:
        life.cancel()
        await asyncio.wait({life})
        if not life.cancelled() and (error := life.exception()) is not None:
            log.info("service.failed_at_its_end", reason=str(error))
        raise
    if life.cancelled():
        raise RuntimeError("cancelled itself")
    life.result()
