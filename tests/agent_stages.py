"""Two stages for the same plays: agents that play a script, and the real CLI before a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from daemon.agents.claude import AgentSettings, ClaudeAgents
from daemon.agents.scripted import Say, ScriptedAgents, Step, Use, Wait, Work
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.errors import WallError
from daemon.isolation.levels import LEVELS, Level, available_level
from daemon.mcp_servers import McpServers
from daemon.model import JsonObject, ProcessRef, Profile, Prompt, Trust, Workspace
from daemon.ports import (
    Agent,
    AgentEvent,
    Agents,
    Permission,
    ToolAnswer,
    ToolServers,
    ToolSpec,
    TurnEnded,
)

PATIENCE_SECONDS = 40.0

MEMBER = Profile(Trust.MEMBER, ("Read", "Glob", "Grep", "Write", "Edit", "Bash"))
PUBLIC = Profile(Trust.PUBLIC, ())
ASKING = Profile(Trust.MEMBER, MEMBER.tools, ask=("Bash",))

LABEL = ToolSpec(
    name="label",
    description="Put a label on the mail.",
    schema={
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    },
    answer="Labelled.",
)


def new_uuid() -> str:
    return str(uuid.uuid4())


@dataclass
class RecordingGate:
    """The port `ToolGate`: keeps its calls, answers `answer`, or raises it; and `permission` where
    it is asked, which it keeps in `asked`.
    """

    answer: str | Exception = "Labelled."
    calls: list[tuple[str, JsonObject, str]] = field(default_factory=list)
    permission: Permission | Exception = field(default_factory=lambda: Permission(granted=True))
    asked: list[tuple[str, JsonObject]] = field(default_factory=list)
    used: list[tuple[str, str, JsonObject]] = field(default_factory=list)
    servers: ToolServers = field(default_factory=lambda: McpServers(()))

    async def use(
        self, server: str, tool: str, arguments: JsonObject, tool_use_id: str
    ) -> ToolAnswer:
        self.used.append((server, tool, arguments))
        return await self.servers.call(server, tool, arguments)

    async def call(self, tool: str, arguments: JsonObject, tool_use_id: str) -> str:
        self.calls.append((tool, arguments, tool_use_id))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ask(self, tool: str, arguments: JsonObject) -> Permission:
        self.asked.append((tool, arguments))
        if isinstance(self.permission, Exception):
            raise self.permission
        return self.permission


class Hold(Protocol):
    """Where a play stands still."""

    async def arrived(self) -> object: ...
    def release(self) -> None: ...


class Stage(Protocol):
    """What the contract's tests ask of either side."""

    agents: Agents
    gate: RecordingGate

    def says(self, text: str) -> Prompt: ...
    def uses_label(self, name: str, then: str) -> Prompt: ...
    def runs(self, command: str, then: str) -> Prompt:
        """A shell command, by the CLI's own tool."""
        ...

    def held(self, text: str) -> tuple[Prompt, Hold]: ...
    def again(self, prompt: Prompt) -> Prompt:
        """The same words under a new uuid."""
        ...

    def kill(self, agent: Agent) -> None: ...
    def is_gone(self, process: ProcessRef) -> bool: ...


async def play(agent: Agent, prompt: Prompt) -> list[AgentEvent]:
    """All events of a turn."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [event async for event in agent.turn(prompt)]


async def answer(agent: Agent, prompt: Prompt) -> TurnEnded:
    end = (await play(agent, prompt))[-1]
    assert isinstance(end, TurnEnded), end
    return end


@contextlib.asynccontextmanager
async def started(
    stage: Stage, workspace: Workspace | None = None, profile: Profile = MEMBER
) -> AsyncIterator[Agent]:
    workspace = workspace or stage.agents.new_workspace()
    agent = await stage.agents.start(workspace, profile, "token-of-this-conversation", stage.gate)
    try:
        yield agent
    finally:
        await agent.close()


# --- the scripted side ---------------------------------------------------------------------------


@dataclass
class _EventHold:
    agents: ScriptedAgents
    prompt: Prompt
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def arrived(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.prompt not in self.agents.prompts:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def release(self) -> None:
        self.event.set()


class ScriptedStage:
    def __init__(self, root: Path) -> None:
        self._steps: dict[str, Sequence[Step]] = {}
        self.scripted = ScriptedAgents(root, lambda prompt: self._steps[prompt.text])
        self.agents: Agents = self.scripted
        self.gate = RecordingGate()

    def says(self, text: str) -> Prompt:
        return self._prompt([Say(text)])

    def uses_label(self, name: str, then: str) -> Prompt:
        return self._prompt([Use("label", {"name": name}), Say(then)])

    def runs(self, command: str, then: str) -> Prompt:
        return self._prompt([Work("Bash", arguments={"command": command}), Say(then)])

    def held(self, text: str) -> tuple[Prompt, Hold]:
        event = asyncio.Event()
        prompt = self._prompt([Wait(event), Say(text)])
        return prompt, _EventHold(self.scripted, prompt, event)

    def again(self, prompt: Prompt) -> Prompt:
        return replace(prompt, uuid=new_uuid())

    def kill(self, agent: Agent) -> None:
        (scripted,) = (a for a in self.scripted.agents if a is agent)
        scripted.kill()

    def is_gone(self, process: ProcessRef) -> bool:
        return self.agents.memory_bytes(process) == 0

    def _prompt(self, steps: Sequence[Step]) -> Prompt:
        prompt = Prompt(new_uuid(), f"play {len(self._steps)}")
        self._steps[prompt.text] = steps
        return prompt


# --- the real side -------------------------------------------------------------------------------


def strongest_level(data_dir: Path) -> Level:
    """The walls that this machine has, so that the CLI is tested within them."""
    try:
        return available_level("auto", data_dir / "conversations")
    except WallError:
        return LEVELS["none"]


def say(text: str) -> str:
    return f"[[say:{text}]]"


def use(tool: str, arguments: Mapping[str, Any]) -> str:
    return f"[[tool:{tool} {json.dumps(arguments)}]]"


def bash(command: str) -> str:
    return use("Bash", {"command": command})


class RealStage:
    """The real CLI within its walls, asking a stand-in model that does what prompts direct."""

    def __init__(
        self,
        model: StandInModel,
        data_dir: Path,
        servers: ToolServers | None = None,
        **changes: Any,
    ) -> None:
        self.model = model
        settings = AgentSettings(
            model="claude-sonnet-5",
            system_prompt="You are a helpful colleague. Be brief, exact and friendly.",
            max_turns=40,
            level=strongest_level(data_dir),
            gateway_port=int(model.url.rpartition(":")[2]),
            data_dir=data_dir,
            model_retries=1,
        )
        self.settings = replace(settings, **changes)
        servers = servers or McpServers(())
        self.claude = ClaudeAgents(self.settings, (LABEL,), servers)
        self.agents: Agents = self.claude
        self.gate = RecordingGate(servers=servers)

    def says(self, text: str) -> Prompt:
        return Prompt(new_uuid(), say(text))

    def uses_label(self, name: str, then: str) -> Prompt:
        return Prompt(new_uuid(), use("mcp__postroom__label", {"name": name}) + say(then))

    def runs(self, command: str, then: str) -> Prompt:
        return Prompt(new_uuid(), bash(command) + say(then))

    def held(self, text: str) -> tuple[Prompt, Hold]:
        mark = f"held-{new_uuid()}"
        return Prompt(new_uuid(), f"{mark} {say(text)}"), self.model.hold(mark)

    def again(self, prompt: Prompt) -> Prompt:
        return replace(prompt, uuid=new_uuid())

    def kill(self, agent: Agent) -> None:
        os.kill(agent.process.pid, 9)

    def is_gone(self, process: ProcessRef) -> bool:
        return self.agents.memory_bytes(process) == 0


@contextlib.asynccontextmanager
async def real_stage(data_dir: Path, **changes: Any) -> AsyncIterator[RealStage]:
    async with StandInModel(script=directed) as model:
        yield RealStage(model, data_dir, **changes)
