"""When a mailbox counts as alive, and that the pauses between probes keep SURFACE's 75 s."""

from __future__ import annotations

import pytest

from connectors.imap.client import Limits
from connectors.imap.proof import PROVEN_SECONDS, ProofOfLife, Timing
from daemon.clock import ManualClock

SEEN_SECONDS = 75.0  # SURFACE, `/readyz`: a fault of a mailbox is seen after so long at the latest


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_search_and_an_answered_probe_are_proof_and_neither_is_alone(
    clock: ManualClock,
) -> None:
    for first in ("searched", "probed"):
        proven: list[str] = []
        proof = ProofOfLife(clock)
        proof.begin(lambda: proven.append("yes"))  # noqa: B023 - called within this round
        getattr(proof, first)()
        assert not proof.ages().alive
        assert proven == []
        proof.searched()
        proof.probed()
        assert proof.ages().alive
        assert proven == ["yes"]  # once


async def test_an_old_probe_proves_nothing_and_the_next_one_heals(clock: ManualClock) -> None:
    proof = ProofOfLife(clock)
    proof.begin(lambda: None)
    proof.searched()
    proof.probed()
    await clock.advance(PROVEN_SECONDS - 1)
    assert proof.ages().alive
    await clock.advance(1)
    assert not proof.ages().alive
    proof.probed()
    assert proof.ages().alive


async def test_what_another_connection_proved_is_forgotten(clock: ManualClock) -> None:
    proof = ProofOfLife(clock)
    proof.begin(lambda: None)
    proof.searched()
    proof.probed()
    proof.forget()
    assert not proof.ages().alive
    proof.begin(lambda: None)
    proof.probed()
    assert not proof.ages().alive  # nothing was searched on the new ones


def test_a_silent_watching_connection_is_seen_in_time() -> None:
    """Whatever it was doing: its last answered probe is older than that by then."""
    assert PROVEN_SECONDS <= SEEN_SECONDS


def test_a_silent_working_connection_is_seen_in_time() -> None:
    """It may be asked nothing until the bell rings, after a whole IDLE and its end."""
    timing, limits = Timing(), Limits()
    for pause in (timing.idle + limits.idle, timing.poll):
        assert pause + limits.idle <= SEEN_SECONDS  # then NOOP is not answered
    assert limits.command <= SEEN_SECONDS  # in the middle of a SEARCH
    assert limits.fetch <= SEEN_SECONDS  # in the middle of a mail


def test_a_quiet_server_is_not_taken_for_a_silent_one() -> None:
    """Even where it takes as long as it may to end its IDLE."""
    timing, limits = Timing(), Limits()
    assert timing.idle + limits.idle < PROVEN_SECONDS
    assert timing.poll + limits.idle < PROVEN_SECONDS
