from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.errors import OwnershipLost
from daemon.health import HealthRegistry, LedgerPulse, LoopPulse
from daemon.ledger import SqliteLedger, open_ledger
from daemon.metrics import Metrics
from daemon.model import Health, HealthState, Unreadable

PASS, WARN, FAIL = HealthState.PASS, HealthState.WARN, HealthState.FAIL


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteLedger]:
    ledger = await open_ledger(tmp_path, clock)
    yield ledger
    await ledger.close()


# --- the registry ---------------------------------------------------------------------------------


def test_the_worst_component_is_the_status_and_who_is_not_ready_is_named() -> None:
    registry = HealthRegistry()
    assert registry.report().status is PASS
    registry.add("a", lambda: Health(PASS))
    registry.add("b", lambda: Health(WARN, "tired"))
    report = registry.report()
    assert (report.ready, report.status, report.waiting_for) == (True, WARN, ())
    registry.add("c", lambda: Health(FAIL, "down", ready=False))
    registry.add("d", lambda: Health(PASS, ready=False))
    report = registry.report()
    assert (report.ready, report.status, report.waiting_for) == (False, FAIL, ("c", "d"))
    assert report.components["b"].detail == "tired"


def test_a_check_that_breaks_is_a_failed_component_and_no_broken_page() -> None:
    def broken() -> Health:
        raise ZeroDivisionError

    registry = HealthRegistry()
    registry.add("broken", broken)
    registry.add("fine", lambda: Health(PASS))
    report = registry.report()
    assert (report.ready, report.status, report.waiting_for) == (False, FAIL, ("broken",))
    assert report.components["fine"].state is PASS


# --- the ledger's pulse ---------------------------------------------------------------------------


async def test_the_ledger_is_ready_while_a_commit_is_young(
    ledger: SqliteLedger, clock: ManualClock
) -> None:
    pulse = LedgerPulse(ledger, clock, Metrics())
    assert not pulse.health().ready, "not before the first commit"
    await pulse.beat()
    assert (pulse.health().ready, pulse.health().state) == (True, PASS)
    await clock.advance(4.9)
    assert pulse.health().ready
    await clock.advance(0.2)
    health = pulse.health()
    assert (health.ready, health.state, health.detail) == (False, FAIL, "no commit lately")
    await pulse.beat()
    assert pulse.health().ready


async def test_a_commit_that_fails_is_seen_at_once(
    ledger: SqliteLedger, clock: ManualClock
) -> None:
    pulse = LedgerPulse(ledger, clock, Metrics())
    await pulse.beat()
    await ledger.close()
    await pulse.beat()
    health = pulse.health()
    assert (health.ready, health.state, health.detail) == (False, FAIL, "the ledger is closed")


async def test_a_daemon_that_lost_the_ledger_ends(
    ledger: SqliteLedger, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "lock").unlink()
    usurper = await open_ledger(tmp_path, clock)
    with pytest.raises(OwnershipLost) as lost:
        await LedgerPulse(ledger, clock, Metrics()).run()
    assert lost.value.exit_code == 75
    await usurper.close()


async def test_dead_letters_are_a_warning_and_a_metric(
    ledger: SqliteLedger, clock: ManualClock
) -> None:
    metrics = Metrics()
    pulse = LedgerPulse(ledger, clock, metrics)
    await ledger.register(Unreadable("mail", "1", "odd", b"raw"))
    await pulse.beat()
    health = pulse.health()
    assert (health.state, health.ready) == (WARN, True)
    assert "postroom dead list" in health.detail
    assert health.numbers["dead_letters"] == 1
    assert b"postroom_dead_letters 1.0" in metrics.text()


# --- the loop's pulse -----------------------------------------------------------------------------


async def test_a_loop_that_turns_is_alive_and_one_that_does_not_is_not() -> None:
    clock = ManualClock()
    pulse = LoopPulse(clock, Metrics())
    assert pulse.turns()
    beating = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)
    await clock.advance(6)
    assert not pulse.turns(), "no beat for six seconds"
    async with asyncio.timeout(20):
        while not pulse.turns():
            await asyncio.sleep(0.01)
    assert pulse.lag > 5
    beating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beating
