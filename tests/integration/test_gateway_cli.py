"""The real CLI works through the gateway, and takes its refusals as it should."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import claude_agent_sdk
import pytest

from daemon.budgets import Budget, Limits, Scope
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.gateway import Outcome
from daemon.gateway.body import judge
from daemon.gateway.rules import BETAS
from daemon.ports import Refusal
from tests.cli import Cli, Home
from tests.integration.gateway_help import KEY, MODEL, Book, Rig, rig, turn

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
HELLO = "[[say:good morning]]"
DOT = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)

pytestmark = [pytest.mark.cli, pytest.mark.skipif(not CLI.exists(), reason="no bundled CLI")]


async def run(world: Rig, token: str, home: Path, prompt: str = HELLO) -> dict[str, Any]:
    """One turn of the CLI in print mode, with an environment of nothing but this."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "config"),
        "TMPDIR": str(home),
        "ANTHROPIC_BASE_URL": world.gateway.url,
        "ANTHROPIC_API_KEY": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
    }
    arguments = ["-p", prompt, "--model", MODEL, "--output-format", "json", "--tools", ""]
    process = await asyncio.create_subprocess_exec(
        str(CLI),
        *arguments,
        cwd=home,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said: dict[str, Any] = json.loads(out)
    return said


async def test_a_turn_of_the_cli_is_answered_and_metered(tmp_path: Path) -> None:
    async with rig() as world:
        token = world.token(turn())
        said = await run(world, token, tmp_path)
        assert (said["result"], said["is_error"]) == ("good morning", False)
        assert await world.gateway.close_turn(token) is None
        sent = world.model.journal[0]
        assert sent.headers["x-api-key"] == KEY
        assert token not in json.dumps([dict(sent.headers), sent.body])
        assert sent.headers["anthropic-beta"]
        call = world.book.calls[0]
        assert call.usage.output == sent.usage["output_tokens"]
        assert call.cost == pytest.approx(said["total_cost_usd"])


@pytest.mark.parametrize("name", ["claude-sonnet-5", "claude-opus-5-5"])
async def test_all_that_the_cli_asks_for_is_let_through(tmp_path: Path, name: str) -> None:
    """Asked directly: with a tool and its result, with an image, and for as much as it would."""
    picture = tmp_path / "work" / "dot.png"
    async with StandInModel(directed) as model:
        home = Home(tmp_path, model.url).make()
        picture.write_bytes(base64.b64decode(DOT))
        read = json.dumps({"file_path": str(picture)})
        work = json.dumps({"command": "echo worked"})
        tools = ("--tools", "Bash,Read", "--allowedTools", "Bash,Read")
        async with Cli(home, *tools, "--model", name) as cli:
            await cli.ask(str(uuid4()), f"[[tool:Bash {work}]][[tool:Read {read}]][[say:seen]]")
        assert len(model.journal) == 3
        assert '"image"' in json.dumps(model.journal[-1].body)
        for entry in model.journal:
            assert entry.path == "/v1/messages"
            judged = judge(json.dumps(entry.body).encode(), name)
            assert json.loads(judged.body(9)) == {**entry.body, "max_tokens": 9}
            betas = entry.headers["anthropic-beta"].split(",")
            assert [beta for beta in betas if beta not in BETAS] == []


async def test_a_spent_budget_ends_the_turn_at_once(tmp_path: Path) -> None:
    daily = Budget(Scope.ALL)
    async with rig(limits=Limits(daily=1.0), book=Book(before={daily: 5.0})) as world:
        token = world.token(turn())
        began = time.monotonic()
        said = await run(world, token, tmp_path)
        assert said["is_error"]
        assert said["api_error_status"] == 403
        assert time.monotonic() - began < 30
        assert await world.gateway.close_turn(token) == Refusal(daily)
        assert world.outcomes().count(Outcome.REFUSED) == 1


async def test_a_refused_key_ends_the_turn_at_once_instead_of_being_repeated(
    tmp_path: Path,
) -> None:
    async with rig(api_key="sk-ant-withdrawn") as world:
        said = await run(world, world.token(turn()), tmp_path)
        assert said["is_error"]
        assert said["api_error_status"] == 403
        assert len(world.model.journal) == 1
        assert world.keys == [True]


async def test_a_busy_api_is_asked_again_by_the_cli(tmp_path: Path) -> None:
    async with rig() as world:
        world.model.fail(529, retry_after=0)
        said = await run(world, world.token(turn()), tmp_path)
        assert said["result"] == "good morning"
        assert world.outcomes() == [Outcome.OVERLOADED, Outcome.OK]


async def test_what_one_is_refused_the_others_wait_for(tmp_path: Path) -> None:
    """Three agents, and an API that asks for a rest: it is asked by one, and by all when it is
    over; none of the CLIs sees a refusal that was not its own.
    """
    async with rig() as world:
        world.model.fail(429, retry_after=3)
        homes = [tmp_path / name for name in "abc"]
        for home in homes:
            home.mkdir()
        first = asyncio.create_task(run(world, world.token(turn("turn-a")), homes[0]))
        await world.until(lambda: Outcome.RATE_LIMITED in world.outcomes())
        refused_at = time.monotonic()
        assert world.gateway.rests() > 2
        others = [run(world, world.token(turn(f"turn-{home.name}")), home) for home in homes[1:]]
        said = await asyncio.gather(first, *others)
        assert [each["result"] for each in said] == ["good morning"] * 3
        assert time.monotonic() - refused_at > 2.9
        assert world.outcomes().count(Outcome.RATE_LIMITED) == 1
        assert len(world.model.journal) == 4
        assert world.gateway.rests() == 0
