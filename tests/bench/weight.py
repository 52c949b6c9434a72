"""What the daemon and its agents weigh, and what they send to the model."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace
from pathlib import Path

import psutil
from claude_agent_sdk import ClaudeSDKClient

from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from tests.bench.bare import Bare, turn
from tests.bench.rows import Row, at_most, ratio
from tests.bench.stage import POSTS_APART, proportional, resident, stage
from tests.bench.standin import KEY

CONVERSATIONS, TURNS = 4, 3


async def memory(root: Path, url: str) -> list[Row]:
    """After the same turns on both sides, all processes idle and up at the same time."""
    bare = Bare(root, url)
    pool = {"max_processes": CONVERSATIONS + 2, "spare_processes": 1}
    async with stage(root, url, pool=pool) as standing, bare.hot(CONVERSATIONS) as clients:
        threads = [standing.begin(number) for number in range(CONVERSATIONS)]
        for thread in threads:
            await standing.answered(thread)
        for _ in range(TURNS - 1):
            await asyncio.sleep(POSTS_APART)
            for thread, client in zip(threads, clients, strict=True):
                await standing.answered(standing.go_on(thread))
                await turn(client)
        await standing.until_rested(spare=1)
        await asyncio.sleep(3)  # until both sides' runtimes have come to rest
        ours = [proportional(pid) for pid in standing.cli_processes()[:CONVERSATIONS]]
        plain = [proportional(pid) for pid in _bare_processes()]
        daemon = resident(standing.daemon.pid)
    more = CONVERSATIONS * TURNS + 1
    return [
        Row(f"the daemon after {more} turns, RSS", "-", daemon, None, "MB", 1, at_most(110)),
        Row("an idle CLI process, PSS", "a bare one after the same turns",
            statistics.median(ours), statistics.median(plain), "MB", CONVERSATIONS, ratio(1.05)),
    ]  # fmt: skip


def _bare_processes() -> list[int]:
    """The CLI processes that this process started itself."""
    children = psutil.Process().children()
    return [child.pid for child in children if Path(child.exe()).name == "claude"]


async def request(root: Path, _url: str) -> list[Row]:
    """The first request of a conversation with the member profile's tools."""
    async with StandInModel(directed, api_key=KEY) as model:

        def latest() -> float:
            return int(model.journal[-1].headers["content-length"]) / 1000

        async with stage(root, model.url):
            ours = latest()
        bare = Bare(root, model.url)
        options = bare.options(bare.new_workspace())
        by_default = {k: v for k, v in options.env.items() if "GIT_INSTRUCTIONS" not in k}
        async with ClaudeSDKClient(replace(options, env=by_default)) as client:
            await turn(client)
            same_tools = latest()
        preset = replace(
            bare.options(bare.new_workspace()),
            system_prompt={"type": "preset", "preset": "claude_code"},
            tools={"type": "preset", "preset": "claude_code"},
            setting_sources=None,
            env=by_default,
        )
        async with ClaudeSDKClient(preset) as client:
            await turn(client)
            whole = latest()
    work = "first request to the model, member profile"
    return [
        Row(work, "the same tools by default", ours, same_tools, "KB", 1, at_most(20)),
        Row(work, "the preset", ours, whole, "KB", 1),
    ]
