"""A clock that jumps: what waits is due as soon, and given up on as late, as without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.timekeeping import Timekeeping
from tests.ledgers import IMPLEMENTATIONS, Stage, post

DAY = 86_400.0
BACK_OFF = 600.0


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    (implementation, *_), clock = IMPLEMENTATIONS, ManualClock()
    stage = Stage(implementation, tmp_path, await implementation.open(tmp_path, clock), clock)
    yield stage
    await stage.ledger.close()


@pytest.mark.parametrize("jump", [2 * DAY, -2 * DAY])
async def test_what_waits_is_moved_with_a_jump(stage: Stage, jump: float) -> None:
    ledger, clock = stage.ledger, stage.clock
    turn = await stage.running()
    await ledger.requeue(turn.id, not_before=clock.now() + BACK_OFF, resend=False)
    effect = post("1", "t2")
    await ledger.add_effects((effect,))
    await ledger.mark_pending(effect.id, clock.now() + BACK_OFF, "Slack cannot be reached")
    oldest = (await ledger.counts()).oldest_age
    told: list[str] = []
    moved: list[None] = []

    async def tell(key: str, text: str, aside: str = "") -> None:
        told.append(text)

    timekeeping = Timekeeping(
        ledger=ledger, clock=clock, tell=tell, moved=lambda: moved.append(None)
    )
    await timekeeping.look()
    assert not told
    before = clock.now()
    clock.jump(jump)
    assert clock.now() == before, "nobody sees it before it is followed"
    await timekeeping.look()
    assert clock.now() == before + jump
    (ready,) = await ledger.all_ready()
    assert ready.not_before == clock.now() + BACK_OFF
    assert await ledger.next_due("chat") == clock.now() + BACK_OFF
    counts = await ledger.counts()
    assert counts.oldest_age == oldest
    assert counts.held_up["chat"].age == 0
    kept = await ledger.turn(turn.id)
    assert kept is not None
    assert kept.claimed_at == turn.claimed_at + jump, "the day after which it is given up on"
    assert len(moved) == 1
    (text,) = told
    assert "48.0 hours" in text
