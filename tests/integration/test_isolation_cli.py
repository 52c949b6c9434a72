"""The real claude CLI within its walls: it works, and what its Bash tool finds is little."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import claude_agent_sdk
import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    ToolResultBlock,
    UserMessage,
)

from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.isolation.processes import alive, end, members, read_pid_file, tree_rss_bytes
from tests.integration.isolation_help import WALLED, Home, home_at, make_home, until

pytestmark = pytest.mark.cli

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


@pytest.fixture
async def model() -> AsyncIterator[StandInModel]:
    async with StandInModel(script=directed) as running:
        yield running


@pytest.fixture(params=WALLED)
async def home(request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    for home in home_at(request.param):
        yield home
        ref = read_pid_file(home.pid_file)
        if ref:
            await end(ref, grace=0.0)


def options(home: Home, model: StandInModel, token: str = "cap-own") -> ClaudeAgentOptions:
    port = int(model.url.rsplit(":", 1)[1])
    return ClaudeAgentOptions(
        cli_path=home.launcher(CLI, port=port, ANTHROPIC_API_KEY=token),
        cwd=home.work,
        model="claude-sonnet-5",
        tools=["Bash"],
        allowed_tools=["Bash"],
        setting_sources=[],
        strict_mcp_config=True,
        env={"DAEMON_SECRET": "canary-in-options"},
        stderr=lambda _: None,
    )


async def bash(client: ClaudeSDKClient, command: str) -> str:
    """One turn with one Bash call; returns what the tool printed."""
    await client.query(f"[[tool:Bash {json.dumps({'command': command})}]]")
    outputs, result = [], None
    async for message in client.receive_response():
        if isinstance(message, UserMessage):
            outputs += [b for b in message.content if isinstance(b, ToolResultBlock)]
        if isinstance(message, ResultMessage):
            result = message
    assert result is not None
    assert result.subtype == "success"
    return "".join(str(block.content) for block in outputs)


async def test_turn_with_a_tool_is_completed(home: Home, model: StandInModel) -> None:
    async with ClaudeSDKClient(options(home, model)) as client:
        assert "hello" in await bash(client, "echo hello | tee file")
        ref = read_pid_file(home.pid_file)
        assert ref is not None
        assert alive(ref)
        assert tree_rss_bytes(ref) > 20_000_000
        assert len(await asyncio.to_thread(members, ref)) >= 1
    assert (home.work / "file").read_text() == "hello\n"
    assert ref is not None
    assert not alive(ref)


async def test_bash_sees_the_planned_environment_and_its_own_token(
    home: Home, model: StandInModel
) -> None:
    os.environ["POSTROOM_TEST_SECRET"] = "canary-in-environ"  # the SDK hands all of ours over
    try:
        async with ClaudeSDKClient(options(home, model)) as client:
            seen = await bash(client, "env; cat /proc/$PPID/environ 2>&1")
    finally:
        del os.environ["POSTROOM_TEST_SECRET"]
    assert "canary" not in seen
    assert "ANTHROPIC_API_KEY=cap-own" in seen
    names = {line.split("=")[0] for line in seen.splitlines() if "=" in line}
    planned = home.plan().env.keys() | {"ANTHROPIC_API_KEY", "POSTROOM_PROCESS"}
    of_shells = {"_", "SHLVL", "OLDPWD"}
    of_the_cli = {name for name in names if name.startswith(("CLAUDE", "AI_AGENT", "GIT_EDITOR"))}
    odd = {"COREPACK_ENABLE_AUTO_PIN", "NoDefaultCurrentDirectoryInExePath"}  # the CLI's too
    assert names <= planned | of_shells | of_the_cli | odd


async def test_bash_cannot_reach_beyond_its_walls(home: Home, model: StandInModel) -> None:
    top = home.top.parent
    other = make_home(top / "other")
    (other.work / "secret").write_text("canary-of-another")
    (top / "ledger.db").write_text("canary-of-the-ledger")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    attacks = {
        "other": f"cat '{other.work}/secret'",
        "link": f"ln -s '{other.work}/secret' s; cat s",
        "hard": f"ln '{other.work}/secret' h && cat h",
        "list": f"ls '{other.work}'",
        "ledger": f"cat '{top}/ledger.db'",
        "token": f"cat '{home.top}/run/a/plan'",
        "token within": "cat /run/postroom/plan",
        "environ": f"cat /proc/{os.getpid()}/environ",
        "signal": f"kill -0 {os.getpid()}",
        "port": f"exec 3<>/dev/tcp/127.0.0.1/{port}",
        "udp": f"exec 3<>/dev/udp/127.0.0.1/{port}",
        "plant": f"echo x > '{other.work}/planted'",
        "shadow": "cat /etc/shadow",
    }
    script = "; ".join(f"({attack}) 2>/dev/null && echo OPEN-{n}" for n, attack in attacks.items())
    async with server, ClaudeSDKClient(options(home, model)) as client:
        seen = await bash(client, f"{script}; echo ended")
    assert "ended" in seen
    assert "OPEN" not in seen
    assert "canary" not in seen


async def test_death_of_the_daemon_leaves_no_cli_and_no_tool(
    home: Home, little_daemon: asyncio.subprocess.Process
) -> None:
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    assert len(await asyncio.to_thread(members, ref)) >= 2
    little_daemon.kill()
    await little_daemon.wait()
    assert await until(lambda: not members(ref), seconds=15.0)  # 2 to 4 s measured


async def test_killed_cli_leaves_no_tool_once_it_is_ended(
    home: Home, little_daemon: asyncio.subprocess.Process
) -> None:
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    everything = await asyncio.to_thread(members, ref)
    os.kill(ref.pid, signal.SIGKILL)
    await little_daemon.wait()  # its turn ended with an error
    assert await end(ref, grace=1.0)
    assert not any(map(alive, everything))


LITTLE_DAEMON = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from claude_agent_sdk import ClaudeSDKClient
from daemon.isolation.levels import LEVELS, fitted
from tests.integration.isolation_help import Home
from tests.integration.test_isolation_cli import bash, options

async def main():
    top, model, level, user = Path(sys.argv[1]), SimpleNamespace(url=sys.argv[2]), *sys.argv[3:]
    level = fitted(LEVELS[level], top / "data" / "conversations")
    home = Home(top, level, int(user) if user else None)
    async with ClaudeSDKClient(options(home, model)) as client:
        await bash(client, "touch tool-runs; sleep 90")

asyncio.run(main())
"""


@pytest.fixture
async def little_daemon(
    home: Home, model: StandInModel
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own with one agent, whose tool sleeps."""
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LITTLE_DAEMON),
        *(str(home.top), model.url, home.level.name, str(home.user or "")),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        running = (home.work / "tool-runs").exists
        assert await until(lambda: running() or daemon.returncode is not None)
        assert running(), "the agent's tool did not start"
        yield daemon
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()
