"""Room on the disk: what becomes of a conversation whose files outgrow it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from daemon import texts
from daemon.agents.scripted import Say, ScriptedAgents, Step, Wait
from daemon.clock import ManualClock
from daemon.model import Prompt, Workspace
from daemon.pool import WATCH_SECONDS
from daemon.quota import SHARE, TIDYING_BYTES, Quota
from tests.flow import Flow

LIMIT = 64 * 2**20


def holds(workspace: Workspace, size: int) -> None:
    (workspace.work / "file").write_bytes(bytes(size))


async def test_who_is_above_the_limit_may_stay_and_shrink_there_but_not_grow(
    tmp_path: Path,
) -> None:
    agents = ScriptedAgents(tmp_path)
    quota, workspace = Quota(agents, ManualClock(), LIMIT), agents.new_workspace()
    holds(workspace, LIMIT // 2)
    assert not await quota.outgrown(workspace)
    holds(workspace, 2 * LIMIT)
    assert await quota.outgrown(workspace)
    assert not await quota.outgrown(workspace), "the next turn may delete"
    holds(workspace, 2 * LIMIT + TIDYING_BYTES // 2)
    assert not await quota.outgrown(workspace), "it writes a little to do so"
    holds(workspace, 3 * LIMIT)
    assert await quota.outgrown(workspace)
    holds(workspace, LIMIT // 2)
    assert not await quota.outgrown(workspace)
    holds(workspace, 2 * LIMIT)
    assert await quota.outgrown(workspace), "what was forgiven is not forgiven for ever"


async def test_many_small_steps_are_growth_like_a_large_one(tmp_path: Path) -> None:
    agents = ScriptedAgents(tmp_path)
    quota, workspace = Quota(agents, ManualClock(), LIMIT), agents.new_workspace()
    step, size = TIDYING_BYTES * 3 // 4, 2 * LIMIT
    holds(workspace, size)
    assert await quota.outgrown(workspace)
    holds(workspace, size + step)
    assert not await quota.outgrown(workspace)
    holds(workspace, size + 2 * step)
    assert await quota.outgrown(workspace)
    holds(workspace, size)
    assert not await quota.outgrown(workspace)
    holds(workspace, size + 2 * step)
    assert await quota.outgrown(workspace), "what was deleted is no room to grow into again"


async def test_what_cannot_be_measured_is_let_be_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    agents = ScriptedAgents(tmp_path)
    quota, workspace = Quota(agents, ManualClock(), LIMIT), agents.new_workspace()
    folder = workspace.work
    for _ in range(150):
        folder /= "d"
        folder.mkdir()
    assert await quota.outgrown(workspace)
    assert await quota.outgrown(workspace), "nobody knows whether it grows"
    agents.erase(workspace)
    assert not await quota.outgrown(workspace)


class SlowDisk(ScriptedAgents):
    def __init__(self, root: Path, clock: ManualClock) -> None:
        super().__init__(root)
        self.clock = clock

    def disk_bytes(self, workspace: Workspace) -> int | None:
        self.clock._now += 3.0
        return super().disk_bytes(workspace)


async def test_a_disk_that_is_slow_to_look_at_is_looked_at_less_often(tmp_path: Path) -> None:
    clock = ManualClock()
    agents = SlowDisk(tmp_path, clock)
    quota = Quota(agents, clock, LIMIT)
    workspace = agents.new_workspace()
    await quota.outgrown(workspace)
    await quota.outgrown(workspace)
    assert quota.rest() == SHARE * 6.0
    assert quota.rest() == 0.0


async def test_a_turn_that_fills_the_disk_is_ended_and_the_next_one_can_delete(
    tmp_path: Path,
) -> None:
    clock, never = ManualClock(), asyncio.Event()
    async with Flow(tmp_path, clock=clock, disk_limit=LIMIT) as flow:

        def play(prompt: Prompt) -> Sequence[Step]:
            (workspace,) = (agent.workspace for agent in flow.agents.agents if agent.alive)
            if "fill" in prompt.text:
                holds(workspace, 2 * LIMIT)
                return [Say("filling"), Wait(never)]
            holds(workspace, 0)
            return [Say("deleted")]

        flow.agents.script = play
        await flow.say("fill it")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await looked(flow, clock)
        assert await flow.answers(1) == [("t1", texts.OUTGROWN)]
        assert [agent.alive for agent in flow.agents.agents] == [False]
        (told,) = flow.told
        assert "outgrew pool.disk_limit_mb" in told
        assert "Ada" in told

        await flow.say("delete it")
        assert (await flow.answers(2))[1] == ("t1", "deleted")
        assert 'turns_total{outcome="outgrown"} 1.0' in flow.metrics.text().decode()


async def test_what_goes_on_filling_the_disk_after_its_turn_is_ended(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Flow(tmp_path, clock=clock, disk_limit=LIMIT) as flow:
        await flow.say("hello")
        await flow.answers(1)
        (agent,) = flow.agents.agents
        holds(agent.workspace, 2 * LIMIT)
        await looked(flow, clock)
        assert not agent.alive
        await flow.say("still there?")
        assert await flow.answers(2) == [("t1", "ok"), ("t1", "ok")]


async def looked(flow: Flow, clock: ManualClock) -> None:
    """Until the disk was looked at and an agent was ended for what was seen. The looking is done in
    a thread, so that the hand has to move on for it more than once.
    """
    async with asyncio.timeout(20):
        while all(agent.alive for agent in flow.agents.agents):
            await clock.advance(WATCH_SECONDS)
            await asyncio.sleep(0.01)
