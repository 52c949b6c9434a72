"""What goes wrong around the real CLI, and what its agent makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.controls import Fault
from daemon.errors import AgentDied, StartFailed
from daemon.isolation import processes
from daemon.model import ProcessRef, Prompt, Workspace
from daemon.ports import Agent, AlreadySeen, ModelRetry, ToolUsed, TurnEnded, TurnStarted
from tests.agent_stages import (
    MEMBER,
    PATIENCE_SECONDS,
    RealStage,
    answer,
    bash,
    new_uuid,
    play,
    real_stage,
    say,
    started,
)

pytestmark = pytest.mark.cli


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[RealStage]:
    async with real_stage(tmp_path) as real:
        yield real


def prompt_of(text: str) -> Prompt:
    return Prompt(new_uuid(), text)


async def ended(stage: RealStage, agent: Agent, prompt: Prompt) -> tuple[TurnEnded, list[int]]:
    """How a turn ended, and the statuses of the retries on the way."""
    events = await play(agent, prompt)
    end = events[-1]
    assert isinstance(end, TurnEnded)
    return end, [e.status or 0 for e in events if isinstance(e, ModelRetry)]


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "retries"),
    [
        (403, "api", []),
        (404, "api", []),
        (400, "unusable", []),
        (413, "unusable", []),
        (429, "api", [429]),
        (500, "api", [500]),
        (529, "api", [529]),
    ],
)
async def test_refused_request_ends_the_turn_and_not_the_agent(
    stage: RealStage, status: int, error: str, retries: list[int]
) -> None:
    workspace, prompt = stage.agents.new_workspace(), stage.says("never")
    async with started(stage, workspace) as agent:
        stage.model.fail(status, times=None)
        end, retried = await ended(stage, agent, prompt)
        assert (end.error, end.status, retried) == (error, status, retries)
        assert end.text == ""
        assert str(status) in end.detail or status in {404, 413}
        assert stage.agents.fate(workspace, prompt.uuid).answer is None
        stage.model.clear()
        assert await play(agent, prompt) == [AlreadySeen()]  # hence a new uuid for each attempt
        assert (await answer(agent, stage.says("well again"))).text == "well again"


async def test_one_failure_is_retried_and_the_turn_is_answered(stage: RealStage) -> None:
    async with started(stage) as agent:
        stage.model.fail(529)
        end, retried = await ended(stage, agent, stage.says("at last"))
    assert (end.text, end.error, retried) == ("at last", None, [529])


@pytest.mark.parametrize("kind", ["cut", "malformed"])
async def test_broken_stream_is_asked_for_again(stage: RealStage, kind: str) -> None:
    async with started(stage) as agent:
        stage.model.faults.add(Fault("cut" if kind == "cut" else "malformed"))
        assert (await answer(agent, stage.says("whole"))).text == "whole"
    assert len(stage.model.journal) == 2


async def test_spent_steps_end_the_turn_and_not_the_agent(tmp_path: Path) -> None:
    async with real_stage(tmp_path, max_turns=2) as stage, started(stage) as agent:
        end = await answer(agent, prompt_of(bash("true") * 3 + say("never")))
        assert end.error == "max_turns"
        assert (await answer(agent, stage.says("short"))).text == "short"


# --- the process ---------------------------------------------------------------------------------


async def test_oversized_line_is_a_death_and_the_session_goes_on(tmp_path: Path) -> None:
    long = prompt_of(bash("head -c 29000 /dev/zero | tr '\\0' x") + say("read it"))
    async with real_stage(tmp_path, max_line_bytes=40_000) as stage:
        workspace = stage.agents.new_workspace()
        async with started(stage, workspace) as agent:
            with pytest.raises(AgentDied):
                await play(agent, long)
        assert stage.is_gone(agent.process)
        async with started(stage, workspace) as agent:
            assert (await answer(agent, stage.says("still here"))).text == "still here"


async def test_agent_killed_while_idle_is_dead_at_the_next_prompt(stage: RealStage) -> None:
    async with started(stage) as agent:
        await answer(agent, stage.says("one"))
        stage.kill(agent)
        with pytest.raises(AgentDied):
            await play(agent, stage.says("two"))
        with pytest.raises(AgentDied):
            await agent.interrupt()


async def test_agent_killed_mid_stream_has_not_answered(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    prompt = prompt_of("mid stream " + say("one two three"))
    hold = stage.model.hold("mid stream", where="stream")
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        stage.kill(agent)
        with pytest.raises(AgentDied):
            await turn
    assert stage.agents.fate(workspace, prompt.uuid).answer is None


async def test_agent_killed_mid_tool_takes_its_tool_along(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    prompt = prompt_of(bash("echo here > started; sleep 300") + say("never"))
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await appears(workspace.work / "started")
        tree = processes.members(agent.process)
        assert len(tree) > 1
        await on_record(stage, workspace, prompt)
        stage.kill(agent)
        with pytest.raises(AgentDied):
            await turn
        await agent.close()
        assert not [ref for ref in tree if processes.alive(ref)]

    fate = stage.agents.fate(workspace, prompt.uuid)
    assert (fate.present, fate.answer, fate.tools_open) == (True, None, ("Bash",))
    async with started(stage, workspace) as agent:
        assert await play(agent, prompt) == [AlreadySeen()]
        assert (await answer(agent, stage.says("new attempt"))).text == "new attempt"
    # When it resumed, the CLI wrote a result for the tool: its outcome is as unknown as before.
    assert stage.agents.fate(workspace, prompt.uuid).tools_open == ("Bash",)


async def test_frozen_agent_is_found_out_and_ended_long_before_the_turn_has_run_out(
    tmp_path: Path,
) -> None:
    async with real_stage(tmp_path, quiet_seconds=1.0, answer_seconds=2.0) as stage:
        prompt, hold = stage.held("never")
        async with started(stage) as agent:
            playing = asyncio.create_task(play(agent, prompt))
            await hold.arrived()
            for each in processes.members(agent.process):
                os.kill(each.pid, signal.SIGSTOP)
            with pytest.raises(AgentDied, match="froze"):
                await playing
            await agent.close()
            assert stage.is_gone(agent.process), "SIGTERM does not reach what is stopped"


async def test_long_silence_of_a_tool_or_of_the_model_is_no_freeze(tmp_path: Path) -> None:
    async with (
        real_stage(tmp_path, quiet_seconds=0.5, answer_seconds=20.0) as stage,
        started(stage) as agent,
    ):
        slow = Prompt(new_uuid(), bash("sleep 3") + say("slept"))
        assert (await answer(agent, slow)).text == "slept"
        prompt, hold = stage.held("thought")
        playing = asyncio.create_task(play(agent, prompt))
        await hold.arrived()
        await asyncio.sleep(2)  # four silences of the model's
        hold.release()
        end = (await playing)[-1]
        assert isinstance(end, TurnEnded)
        assert end.text == "thought"


async def test_interrupted_tool_is_gone_and_the_agent_lives(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    prompt = prompt_of(bash("echo here > started; sleep 300") + say("never"))
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(play(agent, prompt))
        await appears(workspace.work / "started")
        await agent.interrupt()
        end = (await turn)[-1]
        assert isinstance(end, TurnEnded)
        assert end.error == "interrupted"
        assert (await answer(agent, stage.says("next"))).text == "next"


async def test_interrupt_that_comes_before_the_start_still_ends_the_turn(stage: RealStage) -> None:
    async with started(stage) as agent:
        turn = asyncio.create_task(play(agent, prompt_of(bash("sleep 300") + say("never"))))
        while agent._idle.is_set():  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await agent.interrupt()
        end = (await turn)[-1]
        assert isinstance(end, TurnEnded)
        assert end.error == "interrupted"


async def test_turn_that_its_reader_left_is_ended_by_close(stage: RealStage) -> None:
    prompt, hold = stage.held("never")
    async with started(stage) as agent:
        async for event in agent.turn(prompt):
            assert event == TurnStarted()
            break
        await hold.arrived()
    assert stage.is_gone(agent.process)


async def test_events_of_a_tool_come_once_each(stage: RealStage) -> None:
    async with started(stage) as agent:
        events = await play(agent, prompt_of(bash("true") + bash("true") + say("done")))
    used = [event for event in events if isinstance(event, ToolUsed)]
    assert [event.name for event in used] == ["Bash", "Bash"]
    assert len({event.tool_use_id for event in used}) == 2


# --- starting and ending -------------------------------------------------------------------------


async def test_cli_that_is_none_is_a_failed_start(tmp_path: Path, stage: RealStage) -> None:
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    stage.claude._cli = broken
    with pytest.raises(StartFailed, match="it is broken"):
        await stage.agents.start(stage.agents.new_workspace(), MEMBER, "token", stage.gate)
    assert not stage.agents.processes()
    assert not list((tmp_path / "processes").iterdir())


async def test_agent_killed_during_its_start_is_a_failed_start(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    start = asyncio.create_task(stage.agents.start(workspace, MEMBER, "token", stage.gate))
    process = await recorded(stage, workspace.id)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(StartFailed):
        await start
    assert not stage.agents.processes()
    async with started(stage, workspace) as agent:
        assert (await answer(agent, stage.says("second try"))).text == "second try"


async def test_cancelled_start_leaves_no_process(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    start = asyncio.create_task(stage.agents.start(workspace, MEMBER, "token", stage.gate))
    process = await recorded(stage, workspace.id)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert stage.is_gone(process)
    assert not stage.agents.processes()


async def test_second_process_on_a_session_is_refused(stage: RealStage) -> None:
    workspace = stage.agents.new_workspace()
    async with started(stage, workspace):
        with pytest.raises(StartFailed, match="has a process already"):
            await stage.agents.start(workspace, MEMBER, "token", stage.gate)


@pytest.mark.parametrize("content", [b"", b"\x00\xff no JSON\n" * 5])
async def test_session_whose_transcript_is_unusable_begins_anew(
    stage: RealStage, content: bytes
) -> None:
    workspace = stage.agents.new_workspace()
    async with started(stage, workspace) as agent:
        await answer(agent, stage.says("one"))
    (transcript,) = workspace.config.glob("projects/*/*.jsonl")
    transcript.write_bytes(content)
    if content:
        with pytest.raises(StartFailed) as failed:
            await stage.agents.start(workspace, MEMBER, "token", stage.gate)
        assert failed.value.fields["resume_refused"] is True
    assert not stage.agents.has_transcript(workspace)
    async with started(stage, workspace) as agent:
        assert (await answer(agent, stage.says("anew"))).text == "anew"


@pytest.mark.parametrize("how", ["at work", "deaf", "frozen"])
async def test_process_of_a_former_daemon_is_found_and_ended(
    stage: RealStage, tmp_path: Path, how: str
) -> None:
    workspace = stage.agents.new_workspace()
    deaf = "trap '' TERM; " if how == "deaf" else ""
    async with started(stage, workspace) as agent:
        turn = asyncio.create_task(
            play(agent, prompt_of(bash(f"{deaf}echo here > started; sleep 300") + say("never")))
        )
        await appears(workspace.work / "started")
        family = processes.members(agent.process)
        if how == "frozen":
            for each in family:
                os.kill(each.pid, signal.SIGSTOP)
        later = RealStage(stage.model, tmp_path)
        assert later.agents.processes() == {workspace.id: agent.process}
        assert await later.agents.end_leftovers() == 1
        assert len(family) > 1, "the tool, too"
        assert not [each for each in family if processes.alive(each)]
        assert not later.agents.processes()
        with pytest.raises(AgentDied):
            await turn


async def test_live_agent_is_no_leftover(stage: RealStage) -> None:
    async with started(stage) as agent:
        assert await stage.agents.end_leftovers() == 0
        assert (await answer(agent, stage.says("alive"))).text == "alive"


async def appears(path: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not path.exists():  # noqa: ASYNC240 - one stat
            await asyncio.sleep(0.01)


async def on_record(stage: RealStage, workspace: Workspace, prompt: Prompt) -> None:
    """Until the transcript knows of the tool: the CLI writes it down while the tool begins."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not stage.agents.fate(workspace, prompt.uuid).tools_open:
            await asyncio.sleep(0.01)


async def recorded(stage: RealStage, workspace: str) -> ProcessRef:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (found := stage.agents.processes()):
            await asyncio.sleep(0.002)
    return found[workspace]
