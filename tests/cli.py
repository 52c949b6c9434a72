"""The pinned `claude` CLI, driven over its pipes in an environment of its own: nothing ambient.

For contract tests of the CLI itself. Waits are for its events; `idle` is its word for "done".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import claude_agent_sdk

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
PATH = "/usr/local/bin:/usr/bin:/bin"
PATIENCE = 60.0
"""Seconds; a deadline for what should take a fraction of one."""


@dataclass(frozen=True, slots=True)
class Home:
    """The directories that one conversation's CLI sees. Several processes may follow each other."""

    root: Path
    model_url: str
    config_name: str = "config"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def config(self) -> Path:
        return self.root / self.config_name

    def make(self) -> Self:
        for folder in (self.work, self.config, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def environment(self) -> dict[str, str]:
        """All that the CLI gets: a fake key, the loopback model, fresh directories."""
        return {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
            "CLAUDE_CODE_TMPDIR": str(self.root / "tmp"),
            "CLAUDE_CONFIG_DIR": str(self.config),
            "ANTHROPIC_BASE_URL": self.model_url,
            "ANTHROPIC_API_KEY": "not-a-real-key",
            "NO_PROXY": "127.0.0.1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
        }

    def transcript(self, session: str) -> Path:
        """The JSONL of this session. Raises FileNotFoundError while there is none."""
        for path in (self.config / "projects").rglob(f"{session}.jsonl"):
            return path
        raise FileNotFoundError(f"no transcript of {session}")

    async def until_written(self, session: str, part: str) -> None:
        """Until the transcript holds this. The CLI writes it some 20 to 50 ms after the fact
        (measured), and says so nowhere: hence the polling.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    if part in self.transcript(session).read_text():
                        return
                await asyncio.sleep(0.01)

    def copy_with_transcript_only(self, session: str) -> Home:
        """The same work directory with an empty config directory that holds this transcript."""
        copy = Home(self.root, self.model_url, f"{self.config_name}-copy").make()
        source = self.transcript(session)
        target = copy.config / source.relative_to(self.config)
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
        return copy


@dataclass(frozen=True, slots=True)
class Heard:
    """What a CLI said from one prompt to the next `idle`."""

    frames: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What each frame says, without the undocumented `command_lifecycle`."""
        return [kind(f) for f in self.frames if f["type"] != "command_lifecycle"]

    @property
    def started(self) -> list[str]:
        """The uuids of prompts whose turns began: those that an `init` names."""
        inits = [f for f in self.frames if f.get("subtype") == "init"]
        return [uuid for frame in inits for uuid in frame.get("user_message_uuids") or ()]

    @property
    def results(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == "result"]


def kind(frame: dict[str, Any]) -> str:
    """`running` and `idle` for the states, `init` and the like for the system's, else the type."""
    if frame["type"] != "system":
        return str(frame["type"])
    return str(frame.get("state") or frame["subtype"])


class Cli:
    """One process; an async context manager that leaves no process behind."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self._home = home
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            str(CLI),
            "-p",
            *("--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
            *("--setting-sources", "", "--strict-mcp-config", "--permission-mode", "dontAsk"),
            *("--tools", "Bash", "--allowedTools", "Bash", "--model", "claude-sonnet-4-5"),
            *("--system-prompt", "You are under test."),
            *self._arguments,
            cwd=self._home.work,
            env=self._home.environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=64 << 20,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.returncode is None:
            await self.end(signal.SIGKILL)
        if self.process.stdin:
            self.process.stdin.close()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process, "the CLI is used within its context"
        return self._process

    async def send(self, uuid: str, text: str) -> None:
        message = {"role": "user", "content": text}
        await self._write(
            {"type": "user", "uuid": uuid, "parent_tool_use_id": None, "message": message}
        )

    async def interrupt(self) -> None:
        """Ask for an interrupt, as the SDK does. Its effect is heard, not its acknowledgement."""
        request = {"subtype": "interrupt"}
        await self._write(
            {"type": "control_request", "request_id": uuid4().hex, "request": request}
        )

    async def until(self, wanted: str) -> Heard:
        """All frames to the next one of this kind. Raises EOFError when the CLI ends before."""
        heard = Heard()
        async with asyncio.timeout(PATIENCE):
            async for frame in self._frames():
                heard.frames.append(frame)
                if kind(frame) == wanted:
                    return heard
        raise EOFError(f"the CLI ended before it said {wanted}")

    async def ask(self, uuid: str, text: str) -> Heard:
        await self.send(uuid, text)
        return await self.until("idle")

    def close_input(self) -> None:
        """End of its standard input: what happens when the daemon dies."""
        assert self.process.stdin
        self.process.stdin.close()

    async def until_ended(self) -> Heard:
        """All frames until the process has ended by itself."""
        async with asyncio.timeout(PATIENCE):
            heard = Heard([frame async for frame in self._frames()])
            await self.process.wait()
        return heard

    async def end(self, number: signal.Signals) -> None:
        """Send the signal to the CLI alone, not to its tools, and wait until it is gone."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()

    async def _write(self, frame: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")
        await self.process.stdin.drain()

    async def _frames(self) -> AsyncIterator[dict[str, Any]]:
        assert self.process.stdout
        async for line in self.process.stdout:
            yield json.loads(line)


class HeldTool:
    """A shell command that says when it runs, and ends when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._started, self._go = folder / "started", folder / "go"
        os.mkfifo(self._started)
        os.mkfifo(self._go)
        # Open both ways, so that neither side waits for the other to open.
        self._reader = os.open(self._started, os.O_RDWR | os.O_NONBLOCK)
        self._writer = os.open(self._go, os.O_RDWR | os.O_NONBLOCK)

    @property
    def command(self) -> str:
        return f"echo running > {self._started}; read word < {self._go}; echo tool $word"

    async def running(self) -> None:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        loop.add_reader(self._reader, heard.set)
        try:
            async with asyncio.timeout(PATIENCE):
                await heard.wait()
        finally:
            loop.remove_reader(self._reader)

    def finish(self) -> None:
        os.write(self._writer, b"done\n")

    def close(self) -> None:
        """End it if it is still there, as after the death of its CLI."""
        self.finish()
        os.close(self._reader)
        os.close(self._writer)


@asynccontextmanager
async def held_tool(folder: Path) -> AsyncIterator[HeldTool]:
    tool = HeldTool(folder)
    try:
        yield tool
    finally:
        tool.close()
