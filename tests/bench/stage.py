"""Our side: the whole daemon as a process of its own, between the stand-ins of Slack and the model.

Slack's stand-in runs in the benchmark's process, and its journal is the clock: an event begins when
a person posts it, and is answered when the bot's post is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Delivering, StandInSlack
from daemon.demo.slack.people import Said
from daemon.demo.slack.workspace import Channel
from tests.bench.bare import MODEL
from tests.bench.standin import KEY

PERSON = "U0002"
PATIENCE = 120.0
POSTS_APART = 1.0  # Slack takes a post a second in a channel: docs.slack.dev, rate limits

Asked = tuple[Said, float]
"""What a person said, and when (perf_counter)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A daemon that is ready, and the workspace around it."""

    slack: StandInSlack
    daemon: DaemonProcess

    def channel(self, number: int) -> str:
        """A channel of the benchmark's own, with the person and the bot in it."""
        workspace = self.slack.workspace
        name = f"CBENCH{number:03d}"
        if name not in workspace.channels:
            members = {PERSON, workspace.bot_user}
            workspace.channels[name] = Channel(name, name.lower(), members=members)
        return name

    def begin(self, channel: int) -> Asked:
        """A mention that begins a conversation."""
        place, began = self.channel(channel), time.perf_counter()
        return self.slack.mention(PERSON, place, "hello"), began

    def go_on(self, earlier: Asked) -> Asked:
        """One more message in the conversation of an earlier one, without a mention."""
        said, began = earlier[0], time.perf_counter()
        return self.slack.say(PERSON, said.channel, "hello", said.root), began

    async def answered(self, asked: Asked) -> float:
        """Seconds from the event to the answer's post."""
        said, began = asked
        post = await self.slack.wait_for_answer(said, within=PATIENCE)
        took = time.perf_counter() - began
        if post.text != "ok":
            raise RuntimeError(f"the daemon answered {post.text!r}: {self.daemon.tail()}")
        return took

    async def pool(self) -> Mapping[str, Any]:
        _, health = await self.daemon.get("/healthz")
        numbers: Mapping[str, Any] = health["components"]["pool"]["numbers"]
        return numbers

    async def until_rested(self, **wanted: int) -> None:
        """Until the pool's numbers are these, nothing starts or ends, and a moment more."""
        wanted = {"busy": 0, "closing": 0, "starting": 0, **wanted}
        async with asyncio.timeout(PATIENCE):
            while not wanted.items() <= (await self.pool()).items():
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)

    def cli_processes(self) -> list[int]:
        return [
            int(file.read_text().split()[0])
            for file in sorted((self.daemon.data / "processes").glob("*.pid"))
        ]


def daemon_on(
    root: Path, slack: StandInSlack, model_url: str, **tables: Mapping[str, Any]
) -> DaemonProcess:
    """A daemon on the stand-ins, not started; tables given add to the configuration."""
    base: dict[str, Mapping[str, Any]] = {
        "agent": {"api_url": model_url, "model": MODEL},
        "connectors.slack": {
            "kind": "slack",
            "api_url": slack.api_url,
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        },
        **tables,
    }
    secrets = {
        "ANTHROPIC_API_KEY": KEY,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_BOT_TOKEN": slack.bot_token,
    }
    root.mkdir(parents=True, exist_ok=True)
    return DaemonProcess(root, base, secrets)


@asynccontextmanager
async def slack_workspace() -> AsyncIterator[StandInSlack]:
    delivering = Delivering(ack_timeout=30.0, retry_delays=(1.0, 5.0, 30.0), hold_unconnected=True)
    async with StandInSlack(delivering=delivering) as slack:
        yield slack


@asynccontextmanager
async def stage(root: Path, model_url: str, **tables: Mapping[str, Any]) -> AsyncIterator[Stage]:
    """A daemon that is ready and knows the person who will ask."""
    async with slack_workspace() as slack, daemon_on(root, slack, model_url, **tables) as daemon:
        standing = Stage(slack, daemon)
        await standing.answered(standing.begin(999))
        yield standing


def resident(pid: int) -> float:
    """Resident memory in MB (10**6 bytes): proc(5), status."""
    return _kilobytes(pid, "status", "VmRSS")


def proportional(pid: int) -> float:
    """MB where each page that several processes share is divided among them: smaps_rollup."""
    return _kilobytes(pid, "smaps_rollup", "Pss")


def _kilobytes(pid: int, file: str, field: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    raise RuntimeError(f"no {field} in /proc/{pid}/{file}")
