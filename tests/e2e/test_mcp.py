"""Tools of an MCP server, in a whole daemon with the real CLI: used, asked for, and down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import aiohttp
import pytest

from daemon import texts
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import StandInSlack
from daemon.isolation import processes
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import eventually

pytestmark = pytest.mark.e2e

ADA, BEA, GENERAL = "U0001", "U0002", "C0001"  # Ada is an operator
STANDIN = Path(__file__).parents[1] / "mcp_standin.py"
KEY = "c4nary-of-the-notes"
ADD, COUNT = "mcp__notes__add", "mcp__notes__count"


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> DaemonProcess:
    return new_daemon(
        {"NOTES_KEY": KEY},
        mcp__notes={
            "command": [sys.executable, str(STANDIN)],
            "env": {"NOTES_KEY": {"env": "NOTES_KEY"}},
            "only_read": {"count": "it tells how many notes there are"},
        },
        profiles__member={"tools": ["Bash", ADD, COUNT], "ask": [ADD]},
        profiles__operator={"tools": ["Bash", ADD, COUNT, "mcp__notes__die"]},
        trust={"operators": ["slack:T0001:U0001"]},
    )


async def test_what_a_server_offers_is_used_by_whom_it_is_granted(
    daemon: DaemonProcess, slack: StandInSlack
) -> None:
    add = f"[[tool:{ADD} {json.dumps({'text': 'milk'})}]]"
    async with daemon:
        said = slack.mention(ADA, GENERAL, add)
        assert (await slack.wait_for_answer(said, within=60)).text.strip() == "note 1: milk"

        said = slack.mention(BEA, GENERAL, f"[[tool:{COUNT} {{}}]]")
        assert (await slack.wait_for_answer(said, within=60)).text.strip() == "1"

        said = slack.mention(BEA, GENERAL, add)
        (post, *_) = await slack.wait_for_posts(
            GENERAL, said.ts, containing=texts.ASKS.format(tool=ADD)
        )
        slack.click(ADA, GENERAL, post.ts, "approve")
        answers = await slack.wait_for_posts(GENERAL, said.ts, count=2)
        assert answers[-1].text.strip() == "note 2: milk"

        said = slack.mention(BEA, GENERAL, "[[tool:mcp__notes__die {}]]")
        assert "tool_use_error" in (await slack.wait_for_answer(said, within=60)).text
        assert await components(daemon) == {"mcp:notes": "pass"}, "it was not theirs to use"

        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {json.dumps({'command': 'env'})}]]")
        environment = (await slack.wait_for_answer(said, within=60)).text
        assert "ANTHROPIC_API_KEY" in environment
        assert "NOTES_KEY" not in environment

        _, exported, _ = await daemon.run("audit", "export")
    assert exported.count('"what":"tool.called"') == 3
    assert "milk" not in exported
    assert KEY not in daemon.log.read_text()


async def test_one_that_is_down_is_a_plain_error_and_comes_back(
    daemon: DaemonProcess, slack: StandInSlack
) -> None:
    async with daemon:
        said = slack.mention(ADA, GENERAL, "[[tool:mcp__notes__die {}]]")
        told = (await slack.wait_for_answer(said, within=60)).text
        assert "Whether something was done is not known" in told
        said = slack.mention(ADA, GENERAL, f"[[tool:{COUNT} {{}}]]")
        told = (await slack.wait_for_answer(said, within=60)).text.strip()
        assert told in {"0", "This tool's server is not running at the moment. Nothing was done."}
        await eventually(lambda: len(list(daemon.logged("mcp.connected"))) > 1, "it is back")
        said = slack.mention(ADA, GENERAL, f"[[tool:{COUNT} {{}}]]")
        assert (await slack.wait_for_answer(said, within=60)).text.strip() == "0"
        ref = processes.read_pid_file(daemon.data / "mcp" / "notes.pid")
        assert ref
    assert not processes.alive(ref), "it ends with the daemon"


async def components(daemon: DaemonProcess) -> dict[str, str]:
    """The state of each MCP server."""
    page = f"http://127.0.0.1:{daemon.port}/healthz"
    async with aiohttp.ClientSession() as http, http.get(page) as answer:
        found = (await answer.json())["components"]
    return {name: part["state"] for name, part in found.items() if name.startswith("mcp:")}
