"""What every agent keeps to, real or scripted: the ports `Agents` and `Agent`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.errors import AgentDied
from daemon.model import JsonObject
from daemon.ports import (
    AlreadySeen,
    Permission,
    PromptFate,
    TextDelta,
    ToolUsed,
    TurnEnded,
    TurnStarted,
)
from tests.agent_stages import (
    ASKING,
    PATIENCE_SECONDS,
    ScriptedStage,
    Stage,
    answer,
    play,
    real_stage,
    started,
)


@pytest.fixture(params=["scripted", pytest.param("claude", marks=pytest.mark.cli)])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "scripted":
        yield ScriptedStage(tmp_path)
        return
    async with real_stage(tmp_path) as real:
        yield real


async def test_turn_is_answered(stage: Stage) -> None:
    async with started(stage) as agent:
        events = await play(agent, stage.says("Good morning."))

    assert events[0] == TurnStarted()
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Good morning."
    end = events[-1]
    assert isinstance(end, TurnEnded)
    assert (end.text, end.error) == ("Good morning.", None)
    assert end.usage.output > 0


async def test_process_answers_one_turn_after_another(stage: Stage) -> None:
    async with started(stage) as agent:
        first = await answer(agent, stage.says("one"))
        second = await answer(agent, stage.says("two"))
    assert [first.text, second.text] == ["one", "two"]


async def test_closed_session_is_resumed(stage: Stage) -> None:
    workspace = stage.agents.new_workspace()
    assert not stage.agents.has_transcript(workspace)
    async with started(stage, workspace) as agent:
        await answer(agent, stage.says("one"))
    assert stage.agents.has_transcript(workspace)
    async with started(stage, workspace) as agent:
        assert (await answer(agent, stage.says("two"))).text == "two"


async def test_answered_uuid_is_never_run_again(stage: Stage) -> None:
    workspace, prompt = stage.agents.new_workspace(), stage.says("once")
    async with started(stage, workspace) as agent:
        await answer(agent, prompt)
        assert await play(agent, prompt) == [AlreadySeen()]
    async with started(stage, workspace) as agent:
        assert await play(agent, prompt) == [AlreadySeen()]
        assert (await answer(agent, stage.says("twice"))).text == "twice"
    assert stage.agents.fate(workspace, prompt.uuid) == PromptFate(present=True, answer="once")


async def test_unknown_uuid_is_absent_from_the_transcript(stage: Stage) -> None:
    workspace = stage.agents.new_workspace()
    unsent = stage.says("never")
    assert stage.agents.fate(workspace, unsent.uuid) == PromptFate(present=False)
    async with started(stage, workspace) as agent:
        await answer(agent, stage.says("one"))
    assert stage.agents.fate(workspace, unsent.uuid) == PromptFate(present=False)


async def test_interrupted_turn_ends_and_the_next_one_is_answered(stage: Stage) -> None:
    workspace = stage.agents.new_workspace()
    prompt, hold = stage.held("never")
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        await agent.interrupt()
        end = (await turn)[-1]
        assert isinstance(end, TurnEnded)
        assert end.error == "interrupted"
        hold.release()
        assert await play(agent, prompt) == [AlreadySeen()]
        assert (await answer(agent, stage.says("next"))).text == "next"
    assert stage.agents.fate(workspace, prompt.uuid) == PromptFate(present=True)


async def test_interrupt_of_an_idle_agent_is_harmless(stage: Stage) -> None:
    async with started(stage) as agent:
        await agent.interrupt()
        assert (await answer(agent, stage.says("fine"))).text == "fine"


async def test_killed_process_is_a_death_and_a_new_uuid_is_answered(stage: Stage) -> None:
    workspace = stage.agents.new_workspace()
    prompt, hold = stage.held("never")
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        stage.kill(agent)
        with pytest.raises(AgentDied):
            await turn
        with pytest.raises(AgentDied):
            await play(agent, stage.says("dead men"))
    # Whether it is there already is the CLI's affair; that it is not answered is ours.
    assert stage.agents.fate(workspace, prompt.uuid).answer is None

    hold.release()
    again = stage.again(prompt)
    async with started(stage, workspace) as agent:
        assert (await answer(agent, again)).text == "never"
    assert stage.agents.fate(workspace, again.uuid).answer == "never"
    assert stage.agents.fate(workspace, prompt.uuid).answer is None


async def test_closed_agent_leaves_no_process(stage: Stage) -> None:
    async with started(stage) as agent:
        process = agent.process
        assert process in stage.agents.processes().values()
        assert stage.agents.memory_bytes(process) > 2**20
    assert not stage.agents.processes()
    assert stage.is_gone(process)
    await agent.close()  # again


async def test_what_a_workspace_takes_up_on_the_disk_is_told(stage: Stage) -> None:
    workspace = stage.agents.new_workspace()
    async with started(stage, workspace) as agent:
        await answer(agent, stage.says("one"))
    before = stage.agents.disk_bytes(workspace)
    assert before
    for folder in (workspace.work, workspace.config, workspace.home, workspace.tmp):
        (folder / "more").write_bytes(bytes(2**20))
    assert (stage.agents.disk_bytes(workspace) or 0) - before == 4 * 2**20
    stage.agents.erase(workspace)
    with pytest.raises(FileNotFoundError):
        stage.agents.disk_bytes(workspace)


async def test_busy_agent_closes_and_its_turn_sees_a_death_or_an_interrupt(stage: Stage) -> None:
    prompt, hold = stage.held("never")
    async with started(stage) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        await agent.close()
        assert stage.is_gone(agent.process)
        try:
            events = await turn
        except AgentDied:
            return
        end = events[-1]
        assert isinstance(end, TurnEnded)
        assert end.error == "interrupted"


async def test_cancelled_close_runs_to_its_end(stage: Stage) -> None:
    prompt, hold = stage.held("never")
    async with started(stage) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        closing = asyncio.create_task(agent.close())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        await asyncio.wait({closing}, timeout=PATIENCE_SECONDS)
        assert stage.is_gone(agent.process)
        await asyncio.gather(turn, return_exceptions=True)


async def test_call_of_our_tool_reaches_the_gate_with_its_id(stage: Stage) -> None:
    workspace, prompt = stage.agents.new_workspace(), stage.uses_label("spam", "Done.")
    async with started(stage, workspace) as agent:
        events = await play(agent, prompt)

    ((tool, arguments, tool_use_id),) = stage.gate.calls
    assert (tool, dict(arguments)) == ("label", {"name": "spam"})
    assert ToolUsed("mcp__postroom__label", tool_use_id) in events
    fate = stage.agents.fate(workspace, prompt.uuid)
    assert fate == PromptFate(present=True, answer="Done.", tools_done=frozenset({tool_use_id}))


@pytest.mark.parametrize("granted", [True, False])
async def test_tool_that_must_be_asked_for_waits_for_the_gate(stage: Stage, granted: bool) -> None:
    stage.gate.permission = Permission(granted, "A person has said no.")
    workspace, prompt = stage.agents.new_workspace(), stage.runs("ls", "Done.")
    async with started(stage, workspace, ASKING) as agent:
        assert (await answer(agent, prompt)).text == "Done."
    assert stage.gate.asked == [("Bash", {"command": "ls"})]
    fate = stage.agents.fate(workspace, prompt.uuid)
    assert (len(fate.tools_done), fate.tools_open) == (int(granted), ())


async def test_interrupt_ends_the_asking(stage: Stage) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def ask(tool: str, arguments: JsonObject) -> Permission:
        asked.set()
        await never.wait()
        return Permission(granted=True)

    stage.gate.ask = ask  # type: ignore[method-assign]
    async with started(stage, profile=ASKING) as agent:
        turn = asyncio.create_task(play(agent, stage.runs("ls", "never")))
        await asked.wait()
        await agent.interrupt()
        end = (await turn)[-1]
        assert isinstance(end, TurnEnded)
        assert end.error == "interrupted"
        assert (await answer(agent, stage.says("next"))).text == "next"


async def test_erased_workspace_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    workspace = stage.agents.new_workspace()
    async with started(stage, workspace) as agent:
        await answer(agent, stage.says("one"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace.work / "link").symlink_to(outside)
    stage.agents.erase(workspace)
    assert not workspace.root.exists()
    assert outside.exists()
    stage.agents.erase(workspace)  # again
    assert stage.agents.fate(workspace, "any") == PromptFate(present=False)
    stage.agents.sync(workspace)
