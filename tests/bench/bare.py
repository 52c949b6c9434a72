"""The plain side: the agent SDK by itself, with the options and the environment of our agents.

No walls, no launcher, no gateway: the CLI is started by the SDK and asks the stand-in directly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, query

from daemon.agents.claude import bundled_cli
from daemon.agents.options import AgentSettings, agent_environment, client_options
from daemon.agents.workspaces import make_workspace
from daemon.config import DEFAULT_PROMPT, ProfilesTable
from daemon.isolation.levels import LEVELS
from daemon.isolation.plan import Plan
from daemon.model import JsonObject, Profile, Trust, Workspace
from daemon.ports import Permission, ToolAnswer
from tests.bench.standin import KEY

MODEL = "claude-sonnet-5"
MEMBER = Profile(Trust.MEMBER, tuple(ProfilesTable().member.tools))


class NoGate:
    """A gate for agents without tools of ours."""

    async def call(self, tool: str, arguments: JsonObject, tool_use_id: str) -> str:
        raise AssertionError(f"{tool} is no tool of a bare agent")

    async def use(
        self, server: str, tool: str, arguments: JsonObject, tool_use_id: str
    ) -> ToolAnswer:
        raise AssertionError(f"{tool} of {server} is no tool of a bare agent")

    async def ask(self, tool: str, arguments: JsonObject) -> Permission:
        raise AssertionError(f"{tool} need not be asked for")


class Bare:
    """Bare agents whose directories lie under `root`, on the model at `url`."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root / "bare"
        port = urlsplit(url).port
        assert port is not None
        self._settings = AgentSettings(
            model=MODEL,
            system_prompt=DEFAULT_PROMPT,
            max_turns=40,
            level=LEVELS["none"],
            gateway_port=port,
            data_dir=self._root,
        )

    def new_workspace(self) -> Workspace:
        return make_workspace(self._root)

    def options(self, workspace: Workspace, *, resume: bool = False) -> ClaudeAgentOptions:
        """As `ClaudeAgents.start` makes them, but that the CLI itself is what is started."""
        plan = Plan.for_conversation(
            level=self._settings.level,
            command=bundled_cli(),
            root=workspace.root,
            gateway_port=self._settings.gateway_port,
            pid_file=workspace.root / "pid",
            env=agent_environment(self._settings, KEY),
        )
        ours = client_options(
            self._settings,
            workspace,
            MEMBER,
            launcher=plan.command,
            resume=resume,
            specs=(),
            granted={},
            gate=NoGate(),
            on_stderr=lambda _: None,
        )
        return replace(ours, env=dict(plan.env))

    async def cold(self) -> float:
        """Seconds of a `query()` in a new process, to its result."""
        options, began = self.options(self.new_workspace()), time.perf_counter()
        took = 0.0
        async for message in query(prompt="hello", options=options):
            if isinstance(message, ResultMessage):
                took = time.perf_counter() - began
                _check(message)
        return took

    async def resumed(self, workspace: Workspace) -> float:
        """Seconds to connect to a session that has a transcript, and of a turn in it."""
        client = ClaudeSDKClient(self.options(workspace, resume=True))
        began = time.perf_counter()
        try:
            await client.connect()
            await turn(client)
            return time.perf_counter() - began
        finally:
            await client.disconnect()

    @asynccontextmanager
    async def hot(self, count: int = 1) -> AsyncIterator[list[ClaudeSDKClient]]:
        """Connected clients, each with a turn behind it."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(ClaudeSDKClient(self.options(self.new_workspace())))
                for _ in range(count)
            ]
            for client in clients:
                await turn(client)
            yield clients

    async def at_once(self, count: int, parallel: int) -> float:
        """Seconds until so many new clients have each answered, so many starting at a time."""
        starts = asyncio.Semaphore(parallel)
        clients = [ClaudeSDKClient(self.options(self.new_workspace())) for _ in range(count)]

        async def one(client: ClaudeSDKClient) -> None:
            async with starts:
                await client.connect()
            await turn(client)

        began = time.perf_counter()
        try:
            await asyncio.gather(*map(one, clients))
            return time.perf_counter() - began
        finally:
            await close(clients)


async def close(clients: Sequence[ClaudeSDKClient]) -> None:
    await asyncio.gather(*(client.disconnect() for client in clients))


async def turn(client: ClaudeSDKClient, text: str = "hello") -> float:
    """Seconds of one turn in a connected client, from its prompt to its result."""

    async def prompt() -> AsyncIterator[dict[str, Any]]:
        message = {"role": "user", "content": text}
        yield {
            "type": "user",
            "uuid": str(uuid4()),
            "parent_tool_use_id": None,
            "message": message,
        }

    began = time.perf_counter()
    await client.query(prompt())
    async for message in client.receive_response():
        if isinstance(message, ResultMessage):
            took = time.perf_counter() - began
            _check(message)
            return took
    raise RuntimeError("the bare client ended without a result")


def _check(message: ResultMessage) -> None:
    if message.is_error or message.result != "ok":
        raise RuntimeError(f"the bare turn failed: {message.subtype}: {message.result}")
