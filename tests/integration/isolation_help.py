"""Shared by the tests of the walls: a conversation on disk and a shell within its walls."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.agents import cli_path
from daemon.isolation import users
from daemon.isolation.levels import LEVELS, lacks
from daemon.isolation.plan import Plan, write_launcher

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Home:
    """A conversation's directories under `top`, and beside them what only the daemon reaches."""

    top: Path

    @property
    def work(self) -> Path:
        return self.top / "conversation" / "work"

    @property
    def pid_file(self) -> Path:
        return self.top / "run" / "a.pid"

    def plan(
        self,
        command: Path = Path("/bin/bash"),
        *,
        level: str = "landlock",
        port: int = 9,
        user: int | None = None,
        **env: str,
    ) -> Plan:
        return Plan.for_conversation(
            level=LEVELS[level],
            command=command,
            root=self.top / "conversation",
            gateway_port=port,
            pid_file=self.pid_file,
            env=env,
            user=user,
        )

    def launcher(
        self,
        command: Path = Path("/bin/bash"),
        *,
        level: str = "landlock",
        port: int = 9,
        **env: str,
    ) -> Path:
        return write_launcher(
            self.plan(command, level=level, port=port, user=None, **env), self.top / "run" / "a"
        )

    async def shell(self, script: str, *, level: str = "landlock", port: int = 9) -> str:
        """Run a script within the walls to its end; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(str(self.launcher(level=level, port=port)), "-c", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"DAEMON_SECRET": "canary"},
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        return output.decode()


def make_home(top: Path) -> Home:
    for name in ("work", "config", "home", "tmp"):
        (top / "conversation" / name).mkdir(parents=True)
    (top / "run").mkdir()
    return Home(top)


def passable_place() -> Iterator[Path]:
    """For a fixture: an empty folder that other users may pass through, as pytest's own are not.
    Skips where conversations cannot have users of their own.
    """
    with tempfile.TemporaryDirectory(prefix="postroom-users-") as name:
        place = Path(name)
        place.chmod(0o711)
        if why := lacks(LEVELS["uid"], place / "data" / "conversations", cli_path()):
            pytest.skip(f"this machine does not have the level uid: {why}")
        yield place


def give(home: Home, user: int) -> None:
    """The conversation becomes a user's, who may come to it."""
    conversation = home.top / "conversation"
    conversation.chmod(0o700)
    users.let_pass(home.top)
    users.hand_over(conversation, user)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
