"""What the pinned CLI does with a prompt whose uuid it has seen: what recovery rests on.

`daemon/recovery.py` sends a prompt again under its uuid only where nothing stands behind it in the
transcript, harvests what was answered, and makes a new attempt, with a new uuid, of all else. An
upgrade of the CLI that changes one of these tests changes that rule.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from tests.cli import Cli, Heard, HeldTool, Home, held_tool

pytestmark = pytest.mark.cli

DEATHS = [
    pytest.param(signal.SIGKILL, id="SIGKILL"),
    pytest.param(signal.SIGTERM, id="SIGTERM"),
]
TOOL_CALL = '"type":"tool_use"'
TOOL_RESULT = '"type":"tool_result"'
KNOWN = {"first", "No response requested."}
"""Of the texts in a request, those that are no reminders."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One conversation with a CLI: its model, its directories, its session."""

    model: StandInModel
    home: Home
    session: str
    uuid: str
    """Of the prompt that a test sends twice."""

    def begin(self) -> Cli:
        return Cli(self.home, "--session-id", self.session)

    def resume(self, home: Home | None = None) -> Cli:
        return Cli(home or self.home, "--resume", self.session)

    @property
    def calls(self) -> int:
        return len(self.model.journal)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with StandInModel(directed) as model:
        home = Home(tmp_path, model.url).make()
        yield Desk(model, home, str(uuid4()), str(uuid4()))


@pytest.fixture
async def tool(tmp_path: Path) -> AsyncIterator[HeldTool]:
    async with held_tool(tmp_path) as held:
        yield held


def bash(command: str) -> str:
    return f"[[tool:Bash {json.dumps({'command': command})}]]"


async def assert_not_run(desk: Desk, cli: Cli, text: str) -> None:
    """The prompt's uuid again: no model call, no turn, no result, only `idle`."""
    before = desk.calls
    heard = await cli.ask(desk.uuid, text)
    assert (heard.started, heard.results, desk.calls - before) == ([], [], 0)
    assert heard.kinds[-1] == "idle"


async def assert_runs(desk: Desk, cli: Cli, uuid: str, text: str) -> Heard:
    """The prompt runs as a turn of one model call that ends well. The stand-in refuses a history
    in which a tool call has no result, as the real API does.
    """
    before = desk.calls
    heard = await cli.ask(uuid, text)
    assert heard.started == [uuid]
    assert desk.calls - before == 1
    [result] = heard.results
    assert (result["is_error"], result["user_message_uuids"]) == (False, [uuid])
    return heard


async def test_a_new_prompt_is_heard_as_running_init_result_idle(desk: Desk) -> None:
    async with desk.begin() as cli:
        heard = await assert_runs(desk, cli, desk.uuid, "[[say:hello]]")
    assert heard.kinds == ["running", "init", "assistant", "result", "idle"]
    assert heard.results[0]["result"] == "hello"


async def test_an_answered_prompt_in_the_same_process_is_heard_as_idle_alone(desk: Desk) -> None:
    async with desk.begin() as cli:
        await assert_runs(desk, cli, desk.uuid, "first")
        before = desk.calls
        heard = await cli.ask(desk.uuid, "first")
        assert heard.kinds == ["idle"]
        assert desk.calls == before


async def test_an_answered_prompt_is_not_run_again_after_a_kill_and_a_resume(desk: Desk) -> None:
    async with desk.begin() as cli:
        await assert_runs(desk, cli, desk.uuid, "first")
        await cli.end(signal.SIGKILL)
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, "first")


@pytest.mark.parametrize("death", DEATHS)
async def test_a_prompt_with_nothing_behind_it_runs_again_after_a_death(
    desk: Desk, death: signal.Signals
) -> None:
    await die_with_request_open(desk, death)
    async with desk.resume() as cli:
        await assert_runs(desk, cli, desk.uuid, "first")
    last = desk.model.journal[-1].body["messages"]
    texts = [block["text"] for m in last for block in m["content"]]
    assert [text for text in texts if text in KNOWN] == ["first", "No response requested.", "first"]


async def test_a_new_session_killed_before_its_transcript_is_written_begins_again(
    desk: Desk,
) -> None:
    """The model is asked before the transcript is written: there may be none to resume from."""
    gate = desk.model.hold("first")
    async with desk.begin() as cli:
        await cli.send(desk.uuid, "first")
        await gate.arrived()
        await cli.end(signal.SIGKILL)
    gate.release()
    written = any((desk.home.config / "projects").rglob(f"{desk.session}.jsonl"))
    async with desk.resume() if written else desk.begin() as cli:
        await assert_runs(desk, cli, desk.uuid, "first")


async def test_a_later_prompt_killed_before_it_is_written_runs_again(desk: Desk) -> None:
    gate = desk.model.hold("second")
    async with desk.begin() as cli:
        await assert_runs(desk, cli, str(uuid4()), "first")
        await cli.send(desk.uuid, "second")
        await gate.arrived()
        await cli.end(signal.SIGKILL)
    gate.release()
    async with desk.resume() as cli:
        await assert_runs(desk, cli, desk.uuid, "second")


@pytest.mark.parametrize("part", ["result", "idle"])
async def test_an_answer_is_on_disk_when_its_result_is_heard(desk: Desk, part: str) -> None:
    async with desk.begin() as cli:
        await cli.send(desk.uuid, "[[say:the answer]]")
        await cli.until(part)
        await cli.end(signal.SIGKILL)
    assert '"text":"the answer"' in desk.home.transcript(desk.session).read_text()
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, "[[say:the answer]]")


@pytest.mark.parametrize("death", DEATHS)
async def test_a_prompt_cut_off_in_a_tool_is_not_run_again(
    desk: Desk, tool: HeldTool, death: signal.Signals
) -> None:
    async with desk.begin() as cli:
        await cli.send(desk.uuid, bash(tool.command))
        await tool.running()
        await desk.home.until_written(desk.session, TOOL_CALL)
        await cli.end(death)
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, bash(tool.command))
        await assert_runs(desk, cli, str(uuid4()), "again")


@pytest.mark.parametrize("death", DEATHS)
async def test_a_prompt_cut_off_after_a_tool_is_not_run_again(
    desk: Desk, death: signal.Signals
) -> None:
    gate = desk.model.hold("echo one", tool_results=1)
    async with desk.begin() as cli:
        await cli.send(desk.uuid, bash("echo one"))
        await gate.arrived()
        await desk.home.until_written(desk.session, TOOL_RESULT)
        await cli.end(death)
    gate.release()
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, bash("echo one"))
        await assert_runs(desk, cli, str(uuid4()), "again")


@pytest.mark.parametrize("resumed", [False, True], ids=["same process", "resumed"])
@pytest.mark.parametrize("status", [403, 529])
async def test_a_prompt_that_ended_with_an_api_error_is_not_run_again(
    desk: Desk, status: int, resumed: bool
) -> None:
    desk.model.fail(status, times=None)
    async with desk.begin() as cli:
        [result] = (await cli.ask(desk.uuid, "first")).results
        assert (result["is_error"], result["api_error_status"]) == (True, status)
        await desk.home.until_written(desk.session, '"isApiErrorMessage":true')
        desk.model.clear()
        if not resumed:
            await assert_not_run(desk, cli, "first")
            await assert_runs(desk, cli, str(uuid4()), "again")
        await cli.end(signal.SIGKILL)
    if resumed:
        async with desk.resume() as cli:
            await assert_not_run(desk, cli, "first")
            await assert_runs(desk, cli, str(uuid4()), "again")


async def test_from_a_bare_copy_of_the_transcript_an_answered_prompt_is_not_run_again(
    desk: Desk,
) -> None:
    async with desk.begin() as cli:
        await assert_runs(desk, cli, desk.uuid, "first")
        await cli.end(signal.SIGKILL)
    async with desk.resume(desk.home.copy_with_transcript_only(desk.session)) as cli:
        await assert_not_run(desk, cli, "first")


async def test_from_a_bare_copy_of_the_transcript_an_unanswered_prompt_runs_again(
    desk: Desk,
) -> None:
    await die_with_request_open(desk, signal.SIGKILL)
    async with desk.resume(desk.home.copy_with_transcript_only(desk.session)) as cli:
        await assert_runs(desk, cli, desk.uuid, "first")


async def test_a_prompt_interrupted_in_its_stream_is_not_run_again(desk: Desk) -> None:
    gate = desk.model.hold("first", where="stream")
    async with desk.begin() as cli:
        await cli.send(desk.uuid, "[[say:first and more]]")
        entry = await gate.arrived()
        await cli.interrupt()
        await assert_interrupted(cli, "aborted_streaming")
    await entry.ended.wait()
    assert entry.outcome == "cut by the client"
    gate.release()
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, "[[say:first and more]]")
        await assert_runs(desk, cli, str(uuid4()), "again")


async def test_a_prompt_interrupted_in_a_tool_is_not_run_again(desk: Desk, tool: HeldTool) -> None:
    async with desk.begin() as cli:
        await cli.send(desk.uuid, bash(tool.command))
        await tool.running()
        await cli.interrupt()
        await assert_interrupted(cli, "aborted_tools")
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, bash(tool.command))
        await assert_runs(desk, cli, str(uuid4()), "again")


async def test_at_the_end_of_its_input_a_cli_in_a_tool_finishes_by_itself(
    desk: Desk, tool: HeldTool
) -> None:
    async with desk.begin() as cli:
        await cli.send(desk.uuid, bash(tool.command))
        await tool.running()
        cli.close_input()
        tool.finish()
        heard = await cli.until_ended()
        assert cli.process.returncode == 0
    assert [result["result"] for result in heard.results] == ["tool done"]
    async with desk.resume() as cli:
        await assert_not_run(desk, cli, bash(tool.command))


async def die_with_request_open(desk: Desk, death: signal.Signals) -> None:
    """A prompt is in the transcript, the model was asked, and the CLI dies before an answer."""
    gate = desk.model.hold("first")
    async with desk.begin() as cli:
        await cli.send(desk.uuid, "first")
        await gate.arrived()
        await desk.home.until_written(desk.session, desk.uuid)
        await cli.end(death)
    gate.release()


async def assert_interrupted(cli: Cli, reason: str) -> None:
    """The interrupt ends the turn as an error; then the CLI is closed in peace."""
    [result] = (await cli.until("idle")).results
    assert (result["subtype"], result["terminal_reason"]) == ("error_during_execution", reason)
    cli.close_input()
    await cli.until_ended()
