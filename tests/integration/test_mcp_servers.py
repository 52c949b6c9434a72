"""MCP servers as the daemon's children: a real one, that is called, dies and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import mcp.types as mcp
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.clock import SystemClock
from daemon.errors import Unavailable
from daemon.isolation import processes
from daemon.mcp_servers import McpServer, connection, server
from daemon.metrics import Metrics
from daemon.model import HealthState
from daemon.ports import ToolAnswer
from daemon.supervisor import Supervisor

STANDIN = Path(__file__).parents[1] / "mcp_standin.py"
SECONDS = 60.0
KEY = "a-secret-of-the-notes"


def notes(tmp_path: Path, *command: str, wanted: tuple[str, ...] = ("add",)) -> McpServer:
    return McpServer(
        "notes",
        command or (sys.executable, str(STANDIN)),
        folder=tmp_path / "mcp" / "notes",
        secrets=lambda: {"NOTES_KEY": KEY},
        wanted=wanted,
    )


@contextlib.asynccontextmanager
async def running(served: McpServer) -> AsyncIterator[asyncio.Task[None]]:
    """Within it the server is up, under a supervisor as in the daemon."""
    supervisor = Supervisor(SystemClock(), Metrics())
    task = asyncio.create_task(supervisor.supervise("mcp:notes", served.run))
    try:
        async with asyncio.timeout(SECONDS):
            await served.tried.wait()
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[McpServer]:
    served = notes(tmp_path)
    async with running(served):
        yield served


async def test_its_tools_are_known_and_used(up: McpServer) -> None:
    assert set(up.tools) >= {"add", "count", "die"}, "of both pages"
    assert up.tools["add"].description == "Add a note."
    assert up.tools["add"].schema["required"] == ["text"]
    assert await up.call("add", {"text": "milk"}) == ToolAnswer("note 1: milk")
    assert await up.call("count", {}) == ToolAnswer("1")
    assert up.health().state is HealthState.PASS


async def test_what_goes_wrong_is_an_answer_too(up: McpServer) -> None:
    assert await up.call("fail", {}) == ToolAnswer("there is no such note", failed=True)
    for tool, arguments in (("no_such_tool", {}), ("add", {"txt": "milk"})):
        answer = await up.call(tool, arguments)
        assert answer.failed
        assert "Traceback" not in answer.text


async def test_an_answer_is_text_and_not_longer_than_may_be(up: McpServer) -> None:
    assert (await up.call("picture", {})).text == "[image: left out]\na picture"
    long = (await up.call("long", {})).text
    assert long.endswith("x\n[cut off here: 1,000,000 characters in all]")
    assert len(long) < 61_000


async def test_it_has_its_own_secrets_and_little_else(up: McpServer, tmp_path: Path) -> None:
    os.environ["POSTROOM_CANARY"] = "canary-of-the-daemon"
    try:
        told = json.loads((await up.call("started_with", {})).text)
    finally:
        del os.environ["POSTROOM_CANARY"]
    assert set(told["names"]) - {"LC_CTYPE"} == {"PATH", "LANG", "HOME", "TMPDIR", "NOTES_KEY"}
    folder = tmp_path / "mcp" / "notes"
    assert told["at"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_no_secret_that_the_daemon_knows_comes_through(up: McpServer) -> None:
    redactor = logs.set_up("info", "json")
    redactor.learn([KEY])
    assert (await up.call("tell", {})).text == "it is [redacted]"


def test_no_part_of_one_does_where_an_answer_is_cut() -> None:
    logs.set_up("info", "json").learn([KEY])
    text = "x" * (connection.MOST_ANSWER - 6) + KEY + "y" * 100
    result = mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)])
    assert KEY[:6] not in connection.told(result).text


async def test_nor_where_what_it_logs_is_cut(tmp_path: Path) -> None:
    """By the length of a line, and where the pipe is read."""
    logs.set_up("info", "json").learn([KEY])
    filler = "x" * (server.STDERR_CHARACTERS - 6)
    said = f"echo {filler}{KEY} >&2; printf {KEY[:9]} >&2; sleep 0.3; echo {KEY[9:]} >&2"
    served = notes(tmp_path, "/bin/sh", "-c", f"{said}; exec {sys.executable} {STANDIN}")
    with capture_logs() as logged:
        async with running(served):
            assert await served.call("count", {}) == ToolAnswer("0")
            async with asyncio.timeout(SECONDS):
                while len(lines := [e["line"] for e in logged if e["event"] == "mcp.stderr"]) < 3:
                    await asyncio.sleep(0.02)
    assert lines[1:] == ["[redacted]", "the notes are open"]
    assert lines[0].endswith("x[redac")
    assert not any(KEY[:6] in line or KEY[9:] in line for line in lines)


async def test_one_that_does_not_answer_is_not_waited_for(
    up: McpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CALL_SECONDS", 0.1)
    answer = await up.call("hang", {})
    assert answer.failed
    assert "did not answer in time" in answer.text
    monkeypatch.setattr(server, "CALL_SECONDS", SECONDS)
    assert (await up.call("count", {})).text == "0", "it still answers others"


async def test_one_that_dies_says_so_and_is_started_again(up: McpServer) -> None:
    await up.call("add", {"text": "milk"})
    answer = await up.call("die", {})
    assert answer.failed
    assert "not known" in answer.text
    async with asyncio.timeout(SECONDS):
        while (await up.call("count", {})).failed:
            await asyncio.sleep(0.02)
    assert await up.call("count", {}) == ToolAnswer("0"), "another process"


async def test_one_that_is_only_starting_is_waited_for(tmp_path: Path) -> None:
    served = notes(tmp_path)
    early = asyncio.create_task(served.call("count", {}))
    async with running(served):
        assert await early == ToolAnswer("0")


async def test_one_that_cannot_be_started_is_told_of(tmp_path: Path) -> None:
    served = notes(tmp_path, "/no/such/server")
    async with running(served):
        health = served.health()
        assert (health.state, health.ready) == (HealthState.WARN, True)
        assert "No such file" in health.detail
        assert "is not running" in (await served.call("add", {})).text


async def test_so_is_one_that_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await notes(tmp_path, "/bin/echo", "hello").run()


async def test_so_is_a_tool_that_it_does_not_have(tmp_path: Path) -> None:
    served = notes(tmp_path, wanted=("add", "remove"))
    async with running(served):
        assert served.health().detail == "it has no tool 'remove'"


async def test_with_the_daemon_it_ends_and_all_that_it_started(tmp_path: Path) -> None:
    served = notes(tmp_path, "/bin/sh", "-c", f"sleep 1000 & exec {sys.executable} {STANDIN}")
    async with running(served):
        assert await served.call("count", {}) == ToolAnswer("0")
        ref = processes.read_pid_file(tmp_path / "mcp" / "notes.pid")
        assert ref
        members = processes.members(ref)
        assert len(members) == 2
    assert not any(map(processes.alive, members))


async def test_what_a_killed_daemon_left_is_ended_first(tmp_path: Path) -> None:
    left = await asyncio.create_subprocess_exec("/bin/sleep", "1000", start_new_session=True)
    ref = processes.running(left.pid)
    assert ref
    (tmp_path / "mcp").mkdir()
    processes.write_pid_file(tmp_path / "mcp" / "notes.pid", ref)
    async with running(notes(tmp_path)):
        assert not processes.alive(ref)
    await left.wait()
