"""Shared by the tests of the walls: a conversation on disk and a shell within its walls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.isolation.levels import LEVELS
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
        **env: str,
    ) -> Plan:
        return Plan.for_conversation(
            level=LEVELS[level],
            command=command,
            root=self.top / "conversation",
            gateway_port=port,
            pid_file=self.pid_file,
            env=env,
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
            self.plan(command, level=level, port=port, **env), self.top / "run" / "a"
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


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
