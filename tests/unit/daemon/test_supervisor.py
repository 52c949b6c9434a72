from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from daemon.clock import ManualClock
from daemon.errors import AuthenticationFailed, Escalation, Unavailable, WallError
from daemon.metrics import Metrics
from daemon.supervisor import RestartPolicy, ServiceState, Supervisor


class Failing:
    """A service that lives `uptime` seconds and then raises, `limit` times; then it waits."""

    def __init__(
        self, clock: ManualClock, error: Callable[[], Exception], uptime: float, limit: int
    ) -> None:
        self.clock, self.error, self.uptime, self.limit = clock, error, uptime, limit
        self.starts = 0

    async def __call__(self) -> None:
        self.starts += 1
        if self.starts > self.limit:
            await asyncio.Event().wait()
        if self.uptime:
            await self.clock.sleep(self.uptime)
        raise self.error()


async def outcome(service: Failing, clock: ManualClock, seconds: float) -> Supervisor:
    supervisor = Supervisor(clock, Metrics())
    task = asyncio.create_task(supervisor.supervise("child", service))
    for _ in range(int(seconds / 5) + 1):
        await clock.advance(5)
        if task.done():
            break
    if task.done():
        task.result()
    else:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return supervisor


async def test_a_hot_loop_of_crashes_escalates() -> None:
    clock = ManualClock()
    service = Failing(clock, lambda: OSError("boom"), uptime=0, limit=1000)
    with pytest.raises(Escalation):
        await outcome(service, clock, 60)
    assert service.starts == 6


async def test_one_crash_a_minute_never_escalates() -> None:
    clock = ManualClock()
    service = Failing(clock, lambda: OSError("boom"), uptime=60, limit=30)
    await outcome(service, clock, 2500)
    assert service.starts == 31


async def test_an_outage_is_waited_out_and_never_counted() -> None:
    clock = ManualClock()
    service = Failing(clock, lambda: Unavailable("down"), uptime=0, limit=50)
    await outcome(service, clock, 6000)
    assert service.starts == 51


class InAGroup(Failing):
    """The same, failing as connectors do: in a task of a group that waits for its tasks. Such a
    group leaves its own task's cancel count raised (Python 3.11).
    """

    async def __call__(self) -> None:
        async def child() -> None:
            await Failing.__call__(self)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(asyncio.Event().wait())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def test_a_service_that_fails_in_a_task_group_is_run_again() -> None:
    clock = ManualClock()
    service = InAGroup(clock, lambda: Unavailable("down"), uptime=1, limit=3)
    await outcome(service, clock, 60)
    assert service.starts == 4


async def test_refused_credentials_in_a_task_group_park_the_service() -> None:
    clock = ManualClock()
    service = InAGroup(clock, lambda: AuthenticationFailed("bad token"), uptime=1, limit=9)
    supervisor = await outcome(service, clock, 10)
    assert service.starts == 1
    assert supervisor.states["child"] is ServiceState.PARKED


async def test_refused_credentials_park_the_service() -> None:
    clock = ManualClock()
    service = Failing(clock, lambda: AuthenticationFailed("bad token"), uptime=0, limit=9)
    supervisor = await outcome(service, clock, 10)
    assert service.starts == 1
    assert supervisor.states["child"] is ServiceState.PARKED
    assert supervisor.reasons["child"] == "bad token"


async def test_a_wall_that_does_not_hold_ends_the_daemon_at_once() -> None:
    clock = ManualClock()
    service = Failing(clock, lambda: WallError("landlock"), uptime=0, limit=9)
    with pytest.raises(WallError):
        await outcome(service, clock, 10)
    assert service.starts == 1


async def test_a_return_nobody_asked_for_is_a_failure() -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock, Metrics())

    async def returns() -> None:
        return

    task = asyncio.create_task(supervisor.supervise("child", returns))
    await clock.advance(30)
    with pytest.raises(Escalation):
        await task


async def test_one_escalation_ends_all_services() -> None:
    clock, ended = ManualClock(), asyncio.Event()
    supervisor = Supervisor(clock, Metrics())

    async def steady() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def hot() -> None:
        raise OSError("boom")

    services: dict[str, Callable[[], Awaitable[None]]] = {"steady": steady, "hot": hot}
    task = asyncio.create_task(supervisor.run(services))
    await clock.advance(30)
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.group_contains(Escalation)
    assert ended.is_set()


def test_the_longest_wait_stays_below_the_blind_spot() -> None:
    policy = RestartPolicy()
    assert policy.max_wait < policy.blind_spot


async def test_a_parked_service_runs_again_once_somebody_has_acted() -> None:
    clock, supervisor = ManualClock(), Supervisor(ManualClock(), Metrics())
    service = Failing(clock, lambda: AuthenticationFailed("bad token"), uptime=0, limit=2)
    task = asyncio.create_task(supervisor.supervise("child", service))
    for starts in (1, 2):
        await clock.advance(1)
        assert (service.starts, supervisor.states["child"]) == (starts, ServiceState.PARKED)
        supervisor.resume()
    await clock.advance(1)
    assert (service.starts, supervisor.states["child"]) == (3, ServiceState.RUNNING)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("error", [Unavailable("away"), AuthenticationFailed("no"), OSError("x")])
async def test_a_service_that_fails_while_it_is_stopped_is_not_started_again(
    error: Exception,
) -> None:
    clock = ManualClock()
    starts = 0

    async def fails_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    async def serve() -> None:
        nonlocal starts
        starts += 1
        if starts > 1:
            await asyncio.Event().wait()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails_when_cancelled())
                await asyncio.Event().wait()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    supervisor = Supervisor(clock, Metrics())
    running = asyncio.create_task(supervisor.run({"mail": serve}))
    await clock.advance(1)
    stopping = asyncio.create_task(supervisor.stop("mail"))
    for _ in range(20):
        await clock.advance(60)
    assert stopping.done()
    assert starts == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
