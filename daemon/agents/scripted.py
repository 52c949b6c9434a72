"""Agents without processes: they play a script. For tests of the flow, and nothing else.

    agents = ScriptedAgents(tmp_path)
    agents.script = lambda prompt: [Use("label", {"name": "spam"}), Say("done")]
    agents.script = lambda prompt: [Wait(event), Say("late")]
    agents.script = lambda prompt: [Die("killed")]

A script that has neither `Fail` nor `Die` ends in an answer of all its `Say`. Sessions lie as JSON
in each workspace, so they outlive this object as real ones do, and keep the CLI's uuid contract:
a uuid with anything behind it is never run again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from daemon.agents.workspaces import make_workspace, remove_tree, tree_bytes, workspaces_in
from daemon.errors import AgentDied
from daemon.model import JsonObject, ProcessRef, Profile, Prompt, Usage, Workspace
from daemon.ports import (
    AgentEvent,
    AlreadySeen,
    ModelAnswered,
    ModelRetry,
    PromptFate,
    TextDelta,
    ToolGate,
    ToolUsed,
    TurnEnded,
    TurnStarted,
)


@dataclass(frozen=True, slots=True)
class Say:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Use:
    """Call one of our tools through the gate. What it reads is kept in `ScriptedAgents.read`."""

    tool: str
    arguments: JsonObject = field(default_factory=dict)
    tool_use_id: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Use a tool of the CLI's own; `ends` False leaves it open (the process should die then). One
    that the profile's `ask` names is asked for: a refusal is kept in `ScriptedAgents.read`, a call
    that is let through in `ScriptedAgents.worked`.
    """

    tool: str
    ends: bool = True
    arguments: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Stand still until the event is set. An interrupt or a kill ends it, too."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Think:
    """The model has begun to answer, and writes nothing yet."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The model did not answer; the CLI tries again by itself."""

    status: int | None


@dataclass(frozen=True, slots=True)
class Fail:
    """End the turn with an error; the words are those of `TurnEnded.error`."""

    error: str
    status: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Die:
    """The process ends here."""

    detail: str = "killed"


Step = Say | Use | Work | Wait | Think | Retry | Fail | Die
Script = Callable[[Prompt], Sequence[Step]]


@dataclass(slots=True)
class _Entry:
    """What a session holds of one prompt. `behind`: something follows it."""

    behind: bool = False
    answer: str | None = None
    tools_done: list[str] = field(default_factory=list)
    tools_open: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Start:
    """One start, as it was asked for."""

    workspace: Workspace
    profile: Profile
    token: str
    resumed: bool


class ScriptedAgents:
    """The port `Agents` in memory. All attributes may be read and set by a test at any time."""

    def __init__(self, root: Path, script: Script | None = None) -> None:
        self.script: Script = script or (lambda _: [Say("ok")])
        self.on_start: Callable[[Start], Awaitable[None]] | None = None
        """Awaited in every start: may wait, or raise StartFailed."""
        self.on_close: Callable[[], Awaitable[None]] | None = None
        """Awaited in every close, before the process is gone."""
        self.on_sync: Callable[[], None] | None = None
        """Called in a thread after a turn was answered and before its end is written."""
        self.starts: list[Start] = []
        self.prompts: list[Prompt] = []
        """Every prompt sent, also those whose uuid was taken for done."""
        self.read: list[str] = []
        """What tools of ours answered, and why others were not let through."""
        self.worked: list[JsonObject] = []
        """The arguments of each call of a tool of the CLI's own that was let through."""
        self.agents: list[ScriptedAgent] = []
        self.erased: list[Workspace] = []
        self.leftovers: dict[str, ProcessRef] = {}
        """Processes of a former daemon, by workspace id."""
        self.memory = 100 * 2**20
        """Resident bytes of each process that is alive."""
        self.violations: list[str] = []
        """What a real agent would have been broken by: two processes on a session, two turns."""
        self._root = root
        self._pids = itertools.count(100_001)
        self._tool_ids = itertools.count(1)

    def new_workspace(self) -> Workspace:
        return make_workspace(self._root)

    async def start(
        self, workspace: Workspace, profile: Profile, token: str, gate: ToolGate
    ) -> ScriptedAgent:
        start = Start(workspace, profile, token, self.has_transcript(workspace))
        self.starts.append(start)
        if workspace.id in self.processes():
            self.violate(f"a second process on session {workspace.session}")
        if self.on_start is not None:
            await self.on_start(start)
        process = ProcessRef(next(self._pids), 1)
        agent = ScriptedAgent(self, workspace, profile, gate, process)
        self.agents.append(agent)
        return agent

    def fate(self, workspace: Workspace, uuid: str) -> PromptFate:
        session = _load(workspace)
        done = frozenset(itertools.chain.from_iterable(e.tools_done for e in session.values()))
        entry = session.get(uuid)
        if entry is None:
            return PromptFate(present=False, tools_done=done)
        return PromptFate(
            present=True,
            answer=entry.answer,
            tools_done=done,
            tools_open=tuple(entry.tools_open),
        )

    def has_transcript(self, workspace: Workspace) -> bool:
        return bool(_load(workspace))

    def sync(self, workspace: Workspace) -> None:  # noqa: ARG002 - the port's
        """The sessions of a script need not outlive the machine; `on_sync` may hold this up."""
        if self.on_sync is not None:
            self.on_sync()

    def processes(self) -> Mapping[str, ProcessRef]:
        live = {agent.workspace.id: agent.process for agent in self.agents if agent.alive}
        return {**self.leftovers, **live}

    async def end_leftovers(self) -> int:
        count = len(self.leftovers)
        self.leftovers.clear()
        return count

    def memory_bytes(self, process: ProcessRef) -> int:
        return self.memory if process in self.processes().values() else 0

    def disk_bytes(self, workspace: Workspace) -> int | None:
        return tree_bytes(workspace.root)

    def erase(self, workspace: Workspace) -> None:
        self.erased.append(workspace)
        remove_tree(workspace.root)

    def on_disk(self) -> Mapping[Workspace, float]:
        return workspaces_in(self._root)

    def next_tool_use_id(self) -> str:
        return f"toolu_{next(self._tool_ids)}"

    def violate(self, what: str) -> None:
        self.violations.append(what)
        raise AssertionError(what)


class ScriptedAgent:
    """The port `Agent`. `kill` is what SIGKILL is to a real one."""

    def __init__(
        self,
        agents: ScriptedAgents,
        workspace: Workspace,
        profile: Profile,
        gate: ToolGate,
        process: ProcessRef,
    ) -> None:
        self.process = process
        self.workspace = workspace
        self.alive = True
        self.busy = False
        self._agents = agents
        self._profile = profile
        self._gate = gate
        self._signal = asyncio.Event()  # an interrupt or a kill: read the two flags
        self._interrupted = False

    async def turn(self, prompt: Prompt) -> AsyncIterator[AgentEvent]:
        if self.busy:
            self._agents.violate("a second prompt while a turn runs")
        self._agents.prompts.append(prompt)
        self._check_alive()
        session = _load(self.workspace)
        if prompt.uuid in session and session[prompt.uuid].behind:
            yield AlreadySeen()
            return
        self.busy, self._interrupted = True, False
        self._signal.clear()
        entry = session.setdefault(prompt.uuid, _Entry())
        _save(self.workspace, session)
        ended = False
        try:
            yield TurnStarted()
            async for event in self._play(prompt, entry):
                _save(self.workspace, session)
                ended = isinstance(event, TurnEnded)
                self.busy = not ended
                yield event
        finally:
            if not ended:  # else this may run late, when the next turn has saved already
                self.busy = False
                _save(self.workspace, session)

    async def interrupt(self) -> None:
        self._check_alive()
        self._interrupted = True
        self._signal.set()

    async def close(self) -> None:
        if self._agents.on_close is not None:
            await self._agents.on_close()
        self.kill()
        await asyncio.sleep(0)

    def kill(self) -> None:
        """End the process now; a running turn raises AgentDied."""
        self.alive = False
        self._signal.set()

    async def _play(self, prompt: Prompt, entry: _Entry) -> AsyncIterator[AgentEvent]:
        said: list[str] = []
        for step in self._agents.script(prompt):
            match step:
                case Say(text):
                    said.append(text)
                    yield TextDelta(text)
                case Use() | Work():
                    async for event in self._use(step, entry):
                        yield event
                case Wait(event=wanted):
                    await self._stand_still(wanted)
                case Think() | Retry():
                    yield ModelRetry(step.status) if isinstance(step, Retry) else ModelAnswered()
                case Fail(error, status, detail):
                    entry.behind = True
                    yield TurnEnded("", error, status, detail)
                    return
                case Die(detail):
                    self.kill()
                    raise AgentDied(detail)
            await asyncio.sleep(0)
            self._check_alive()
            if self._interrupted:
                entry.behind = True
                yield TurnEnded("", "interrupted")
                return
        entry.behind, entry.answer = True, "".join(said)
        yield TurnEnded(entry.answer, usage=Usage(input=10, output=5), sdk_cost=0.001)

    async def _use(self, step: Use | Work, entry: _Entry) -> AsyncIterator[AgentEvent]:
        given = step.tool_use_id if isinstance(step, Use) else None
        tool_use_id = given or self._agents.next_tool_use_id()
        name = f"mcp__postroom__{step.tool}" if isinstance(step, Use) else step.tool
        entry.behind = True
        entry.tools_open.append(name)
        yield ToolUsed(name, tool_use_id)
        if isinstance(step, Use):
            self._agents.read.append(await self._gate.call(step.tool, step.arguments, tool_use_id))
        elif not await self._permitted(step):
            entry.tools_open.remove(name)
            return
        elif not step.ends:
            return
        entry.tools_open.remove(name)
        entry.tools_done.append(tool_use_id)

    async def _permitted(self, step: Work) -> bool:
        """An interrupt or a kill ends the asking, too."""
        if step.tool in self._profile.ask:
            asking = asyncio.ensure_future(self._gate.ask(step.tool, step.arguments))
            ended = asyncio.ensure_future(self._signal.wait())
            try:
                await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    return False
            finally:
                asking.cancel()
                ended.cancel()
            permission = asking.result()
            if not permission.granted:
                self._agents.read.append(permission.reason)
                return False
        self._agents.worked.append(step.arguments)
        return True

    async def _stand_still(self, wanted: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (wanted, self._signal)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _check_alive(self) -> None:
        if not self.alive:
            raise AgentDied("the scripted process is gone")


def _session_file(workspace: Workspace) -> Path:
    return workspace.config / "scripted.json"


def _load(workspace: Workspace) -> dict[str, _Entry]:
    try:
        text = _session_file(workspace).read_text()
    except FileNotFoundError:
        return {}
    return {uuid: _Entry(**entry) for uuid, entry in json.loads(text).items()}


def _save(workspace: Workspace, session: Mapping[str, _Entry]) -> None:
    if workspace.config.is_dir():  # it may have been erased meanwhile
        text = json.dumps({uuid: asdict(entry) for uuid, entry in session.items()})
        whole = _session_file(workspace).with_suffix(".new")
        whole.write_text(text)
        whole.replace(_session_file(workspace))  # `fate` reads it in a thread: never half of it
