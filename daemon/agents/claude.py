"""The port `Agents` over processes of the claude CLI, each within its walls."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import claude_agent_sdk
import structlog
from claude_agent_sdk import ClaudeSDKClient, ResultError, project_key_for_directory

from daemon.agents.live import ClaudeAgent, describe, finish
from daemon.agents.options import (
    AgentSettings,
    agent_environment,
    client_options,
    egress_environment,
    granted_tools,
)
from daemon.agents.transcript import TranscriptFile
from daemon.agents.workspaces import make_workspace, remove_tree, tree_bytes, workspaces_in
from daemon.errors import StartFailed, WallError
from daemon.isolation import processes, users
from daemon.isolation.plan import Plan, write_launcher
from daemon.model import ProcessRef, Profile, Workspace
from daemon.ports import PromptFate, ToolGate, ToolServers, ToolSpec

__all__ = ["AgentSettings", "ClaudeAgents", "bundled_cli"]

log = structlog.get_logger()

STDERR_LINES = 20  # kept of each process, and logged at most
STDERR_CHARACTERS = 300
_REFUSED = "No conversation found"  # what the CLI says of a session that it cannot resume


def bundled_cli() -> Path:
    """The CLI of the SDK's wheel: the one version that all of this is measured with."""
    return Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


class ClaudeAgents:
    """Workspaces lie in DATA_DIR/conversations, plans and pid files in DATA_DIR/processes, where
    no agent can reach.
    """

    def __init__(
        self,
        settings: AgentSettings,
        tools: Sequence[ToolSpec],
        servers: ToolServers,
        *,
        cli: Path | None = None,
    ) -> None:
        self._settings = settings
        self._tools = tuple(tools)
        self._servers = servers
        self._cli = cli or bundled_cli()
        data_dir = settings.data_dir.resolve()
        self._conversations = data_dir / "conversations"
        self._processes = data_dir / "processes"
        for directory in (self._conversations, self._processes):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._users: users.Users | None = None
        if settings.level.own_users:
            users.let_pass(data_dir, self._conversations)
            self._users = users.Users(w.root for w in workspaces_in(self._conversations))
        self._live: dict[str, ClaudeAgent] = {}
        self._on_disk: dict[str, int] = {}  # inodes of transcripts whose directories are synced

    def new_workspace(self) -> Workspace:
        return make_workspace(self._conversations)

    async def start(
        self, workspace: Workspace, profile: Profile, token: str, gate: ToolGate
    ) -> ClaudeAgent:
        """Raises StartFailed. Where a session cannot be resumed although its transcript is there,
        the transcript is set aside (the next start begins the session anew) and the error's
        `fields` hold `resume_refused=True`.
        """
        if workspace.id in self._live:
            raise StartFailed(f"{workspace.id} has a process already")
        # Two processes on one session both succeed, and fork its transcript (measured).
        await self._end_recorded(workspace)
        user = await self._settle(workspace)
        resume, stderr = self.has_transcript(workspace), StderrLog(workspace.id)
        if not resume:
            self._transcript(workspace).set_aside()  # an empty file, or something else in its place
        client = ClaudeSDKClient(
            client_options(
                self._settings,
                workspace,
                profile,
                launcher=self._write_launcher(workspace, profile, token, user),
                resume=resume,
                specs=self._tools,
                granted=granted_tools(self._servers, profile),
                gate=gate,
                on_stderr=stderr.take,
            )
        )
        try:
            await self._connect(client)
            process = self._recorded(workspace)
        except BaseException as error:
            await self._abandon(workspace, client)
            if not isinstance(error, Exception):
                raise
            raise self._start_failed(error, workspace, stderr, resume=resume) from error
        agent = ClaudeAgent(
            client,
            process,
            lambda: self._forget(workspace),
            quiet=self._settings.quiet_seconds,
            answer=self._settings.answer_seconds,
        )
        self._live[workspace.id] = agent
        return agent

    def fate(self, workspace: Workspace, uuid: str) -> PromptFate:
        return self._transcript(workspace).fate(uuid)

    def has_transcript(self, workspace: Workspace) -> bool:
        return self._transcript(workspace).exists()

    def sync(self, workspace: Workspace) -> None:
        inode = self._transcript(workspace).sync(self._on_disk.get(workspace.id))
        if inode is not None:
            self._on_disk[workspace.id] = inode

    def processes(self) -> Mapping[str, ProcessRef]:
        recorded = {
            path.stem: processes.read_pid_file(path) for path in self._processes.glob("*.pid")
        }
        return {name: ref for name, ref in recorded.items() if ref and processes.alive(ref)}

    async def end_leftovers(self) -> int:
        ended = await processes.sweep(self._processes, keep=lambda path: path.stem in self._live)
        for directory in self._processes.iterdir():
            if directory.is_dir() and directory.name not in self._live:
                shutil.rmtree(directory)  # its plan holds the token of a process that is gone
        return len(ended)

    def memory_bytes(self, process: ProcessRef) -> int:
        return processes.tree_rss_bytes(process)

    def disk_bytes(self, workspace: Workspace) -> int | None:
        return tree_bytes(workspace.root)

    def erase(self, workspace: Workspace) -> None:
        """Remove a workspace whose process is gone. Raises ValueError for a directory that is
        none of ours, OSError where something stays.
        """
        if workspace.root.parent != self._conversations or workspace.root.name in {".", ".."}:
            raise ValueError(f"{workspace.id} does not lie among the conversations")
        remove_tree(workspace.root)
        if self._users is not None:
            self._users.forget(workspace.root)

    def on_disk(self) -> Mapping[Workspace, float]:
        return workspaces_in(self._conversations)

    # --- starting -------------------------------------------------------------------------------

    async def _settle(self, workspace: Workspace) -> int | None:
        """See that all in a workspace is whose process will run in it; returns its user, where it
        has one. Raises StartFailed.
        """
        root = workspace.root
        try:
            if self._users is None:
                await asyncio.to_thread(users.take_back, root)
                return None
            user, new = self._users.assign(root)
            if new:
                await asyncio.to_thread(users.hand_over, root, user)
        except (OSError, WallError) as error:
            if self._users is not None:
                self._users.forget(root)
            raise StartFailed(f"{workspace.id} cannot be handed over: {error}") from error
        return user

    def _write_launcher(
        self, workspace: Workspace, profile: Profile, token: str, user: int | None
    ) -> Path:
        egress_port = self._settings.egress_port if profile.egress else None
        env = dict(agent_environment(self._settings, token))
        if egress_port is not None:
            env |= egress_environment(egress_port, token)
        plan = Plan.for_conversation(
            level=self._settings.level,
            command=self._cli,
            root=workspace.root,
            gateway_port=self._settings.gateway_port,
            pid_file=self._pid_file(workspace),
            env=env,
            user=user,
            egress_port=egress_port,
        )
        return write_launcher(plan, self._processes / workspace.id)

    async def _connect(self, client: ClaudeSDKClient) -> None:
        async with asyncio.timeout(self._settings.start_seconds):
            await client.connect()

    def _start_failed(
        self, error: Exception, workspace: Workspace, stderr: StderrLog, *, resume: bool
    ) -> StartFailed:
        detail = str(error) if isinstance(error, StartFailed) else describe(error)
        if stderr.lines:
            detail = f"{detail}: {' | '.join(stderr.lines)}"[:1000]
        refused = resume and isinstance(error, ResultError) and _REFUSED in str(error)
        if refused:
            log.error("transcript.refused", workspace=workspace.id)
            self._transcript(workspace).set_aside()
        return StartFailed(detail, resume_refused=refused)

    # --- ending ---------------------------------------------------------------------------------

    async def _abandon(self, workspace: Workspace, client: ClaudeSDKClient) -> None:
        """End what a start left behind that failed or was cancelled; not cancelled itself."""

        async def end() -> None:
            await self._end_recorded(workspace)
            await client.disconnect()
            await self._end_recorded(workspace)  # it may have been about to record itself
            self._forget(workspace)

        await finish(asyncio.create_task(end(), name=f"abandon {workspace.id}"))

    def _recorded(self, workspace: Workspace) -> ProcessRef:
        ref = processes.read_pid_file(self._pid_file(workspace))
        if ref is None:
            raise StartFailed("the launcher recorded no process")
        return ref

    async def _end_recorded(self, workspace: Workspace) -> None:
        ref = processes.read_pid_file(self._pid_file(workspace))
        if ref is not None and not await processes.end(ref, grace=1.0):
            raise StartFailed(f"the former process of {workspace.id} cannot be ended")

    def _forget(self, workspace: Workspace) -> None:
        self._live.pop(workspace.id, None)
        self._on_disk.pop(workspace.id, None)
        if self._users is not None:
            self._users.release(workspace.root)
        self._pid_file(workspace).unlink(missing_ok=True)
        shutil.rmtree(self._processes / workspace.id, ignore_errors=True)

    # --- places ---------------------------------------------------------------------------------

    def _pid_file(self, workspace: Workspace) -> Path:
        return self._processes / f"{workspace.id}.pid"

    def _transcript(self, workspace: Workspace) -> TranscriptFile:
        return TranscriptFile(workspace, project_key_for_directory(workspace.work))


class StderrLog:
    """What a process writes to stderr: its first lines are logged, its last ones kept."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._left = STDERR_LINES
        self.lines: deque[str] = deque(maxlen=STDERR_LINES)

    def take(self, line: str) -> None:
        line = line[:STDERR_CHARACTERS]
        self.lines.append(line)
        if self._left > 0:
            self._left -= 1
            log.warning("agent.stderr", workspace=self._workspace, line=line)
