from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.agents.scripted import ScriptedAgents
from daemon.config import RetentionTable
from daemon.model import ConversationId, Outcome, TurnState, Workspace
from daemon.ports import Ending
from daemon.upkeep import Upkeep
from tests.ledgers import LIMITS, PROCESS, Stage, new_stage

DAY = 86_400.0
DONE = Ending(TurnState.DONE, "hi")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with new_stage(tmp_path) as stage:
        yield stage


async def lived_in(stage: Stage, agents: ScriptedAgents, conversation: str) -> Workspace:
    """A conversation whose one turn is over, with a workspace on disk."""
    await stage.hear(stage.message(conversation=conversation, outside_id=f"key-{conversation}"))
    workspace = agents.new_workspace()
    turn = await stage.ledger.claim(ConversationId(conversation), workspace, LIMITS)
    assert turn is not None
    (workspace.work / "file").write_text("x")
    await stage.ledger.end_turn(turn.id, DONE)
    return workspace


async def test_what_is_too_old_goes_from_the_ledger_and_from_disk(stage: Stage) -> None:
    agents = ScriptedAgents(stage.root / "conversations")
    retention = RetentionTable(workspaces_days=10, records_days=20)
    upkeep = Upkeep(
        ledger=stage.ledger, agents=agents, clock=stage.clock, retention=lambda: retention
    )
    old = await lived_in(stage, agents, "old")
    await stage.clock.advance(11 * DAY)
    young = await lived_in(stage, agents, "young")
    await upkeep.once()
    assert (old.root.exists(), young.root.exists()) == (False, True)
    assert await stage.ledger.conversation(ConversationId("old")) is not None
    await stage.clock.advance(10 * DAY)
    await upkeep.once()
    assert await stage.ledger.conversation(ConversationId("old")) is None
    await stage.hear(stage.message(outside_id="key-old"), Outcome.DUPLICATE)
    await stage.clock.advance(10 * DAY)
    await upkeep.once()
    await stage.hear(stage.message(outside_id="key-old"))


async def test_it_comes_round_every_hour_by_the_retention_that_holds_then(stage: Stage) -> None:
    agents = ScriptedAgents(stage.root / "conversations")
    tables = [RetentionTable(workspaces_days=30), RetentionTable(workspaces_days=1)]
    upkeep = Upkeep(
        ledger=stage.ledger, agents=agents, clock=stage.clock, retention=lambda: tables[0]
    )
    workspace = await lived_in(stage, agents, "t1")
    running = asyncio.create_task(upkeep.run())
    await stage.clock.advance(2 * DAY)
    assert workspace.root.exists()
    del tables[0]
    async with asyncio.timeout(30):
        while workspace.root.exists():
            await stage.clock.advance(3600)
            await asyncio.sleep(0.01)  # the ledger and the disk are threads of their own
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Stubborn(ScriptedAgents):
    """Agents whose first try to remove something fails."""

    def erase(self, workspace: Workspace) -> None:
        if not self.erased:
            self.erased.append(workspace)
            raise PermissionError(13, "an agent took its own rights away", str(workspace.root))
        super().erase(workspace)


async def test_a_workspace_that_cannot_be_removed_keeps_no_other_and_is_tried_again(
    stage: Stage,
) -> None:
    agents = Stubborn(stage.root / "conversations")
    both = [await lived_in(stage, agents, name) for name in ("one", "two")]
    await stage.clock.advance(100 * DAY)
    upkeep = Upkeep(ledger=stage.ledger, agents=agents, clock=stage.clock, retention=RetentionTable)
    await upkeep.once()
    assert sum(workspace.root.exists() for workspace in both) == 1
    await upkeep.once()
    assert not any(workspace.root.exists() for workspace in both)


async def test_what_a_killed_daemon_left_behind_goes_and_what_is_in_use_stays(
    stage: Stage,
) -> None:
    agents = ScriptedAgents(stage.root / "conversations")
    adopted = await lived_in(stage, agents, "t1")
    stray, young, alive = (agents.new_workspace() for _ in range(3))
    agents.leftovers[alive.id] = PROCESS
    outside = stage.root / "outside"
    outside.mkdir()
    link = stage.root / "conversations" / "ws-link"
    link.symlink_to(outside)
    two_hours_ago = stage.clock.now() - 7200
    for workspace in (adopted, stray, alive):
        os.utime(workspace.root, (two_hours_ago, two_hours_ago))
    os.utime(young.root, (stage.clock.now(), stage.clock.now()))
    await Upkeep(
        ledger=stage.ledger, agents=agents, clock=stage.clock, retention=RetentionTable
    ).once()
    left = [workspace.root.exists() for workspace in (adopted, stray, young, alive)]
    assert left == [True, False, True, True]
    assert outside.exists()
