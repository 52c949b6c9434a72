"""Shared by the tests of the walls: a conversation on disk and a shell within its walls."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.agents import cli_path
from daemon.isolation import users
from daemon.isolation.levels import LEVELS, Level, fitted, lacks
from daemon.isolation.plan import Plan, write_launcher
from tests.missing import unsupported

PATIENCE = 30.0


WALLED = ("landlock", "bwrap")
"""The two ways in which walls are put up. `uid` is the first as somebody else."""


@dataclass(frozen=True, slots=True)
class Home:
    """A conversation's directories under `top`, and beside them what only the daemon reaches."""

    top: Path
    level: Level = LEVELS["landlock"]
    user: int | None = None

    @property
    def work(self) -> Path:
        return self.top / "conversation" / "work"

    @property
    def pid_file(self) -> Path:
        return self.top / "run" / "a.pid"

    def plan(self, command: Path = Path("/bin/bash"), *, port: int = 9009, **env: str) -> Plan:
        return Plan.for_conversation(
            level=self.level,
            command=command,
            root=self.top / "conversation",
            gateway_port=port,
            pid_file=self.pid_file,
            env=env,
            user=self.user,
        )

    def launcher(self, command: Path = Path("/bin/bash"), *, port: int = 9009, **env: str) -> Path:
        return write_launcher(self.plan(command, port=port, **env), self.top / "run" / "a")

    async def shell(self, script: str, *, port: int = 9009) -> str:
        """Run a script within the walls to its end; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(str(self.launcher(port=port)), "-c", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"DAEMON_SECRET": "canary"},
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        return output.decode()


def make_home(top: Path, level: Level = LEVELS["landlock"], user: int | None = None) -> Home:
    """A new home; where it has a user the conversation is that user's, who may come to it."""
    conversation = top / "conversation"
    for name in ("work", "config", "home", "tmp"):
        (conversation / name).mkdir(parents=True)
    (top / "run").mkdir()
    if user is not None:
        conversation.chmod(0o700)
        users.let_pass(top)
        users.hand_over(conversation, user)
    return Home(top, level, user)


def home_at(name: str) -> Iterator[Home]:
    """For a fixture: a home at this level, in a place with blanks. Skips where the machine does not
    have the level.
    """
    for place in _place("postroom walls "):
        level = fitted(LEVELS[name], place / "data" / "conversations")
        skip_without(level, place)
        yield make_home(place / "home", level, spare_user() if level.own_users else None)


def passable_place() -> Iterator[Path]:
    """For a fixture: an empty folder that other users may pass through, as pytest's own are not.
    Skips where conversations cannot have users of their own.
    """
    for place in _place("postroom-users-"):
        skip_without(LEVELS["uid"], place)
        yield place


def _place(prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        place = Path(name)
        place.chmod(0o711)
        yield place


def skip_without(level: Level, place: Path) -> None:
    if why := lacks(level, place / "data" / "conversations", cli_path()):
        unsupported(f"the level {level.name}: {why}")


def spare_user() -> int:
    """One that no daemon gives, nor (hardly ever) another run of these tests meanwhile."""
    return users.NUMBERS.stop + os.getpid() % 8


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
