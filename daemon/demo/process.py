"""The installed `postroom run` as a process of its own: for the demo, the tests and the benchmark.

It gets an explicit environment and nothing ambient: its own HOME, the secrets that are given.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_config(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    lines = []
    for table, rows in tables.items():
        lines.append(f"[{table}]")
        lines.extend(f"{key} = {toml(value)}" for key, value in rows.items())
    path.write_text("\n".join(lines) + "\n")


class DaemonTrouble(Exception):
    """The daemon did not do what was waited for; the text holds the end of its log."""


class DaemonProcess:
    """Starts, kills and restarts the daemon over one data directory. Logs are kept in `log`."""

    def __init__(
        self,
        root: Path,
        tables: Mapping[str, Mapping[str, Any]],
        secrets: Mapping[str, str],
        *,
        port: int = 0,
        command: tuple[str, ...] = (sys.executable, "-m", "daemon", "run"),
    ) -> None:
        self.root = root
        self.log = root / "daemon.log"
        self.config = root / "postroom.toml"
        self.data = root / "data"
        self.port = port or free_port()
        self.command = command
        home = root / "home"
        home.mkdir(parents=True, exist_ok=True)
        self.environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **secrets,
        }
        daemon = {"data_dir": str(self.data), "listen": f"127.0.0.1:{self.port}"}
        merged = {**tables, "daemon": {**daemon, **tables.get("daemon", {})}}
        write_config(self.config, merged)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it was started and is gone."""
        return self._process is not None and self._process.returncode is not None

    async def start(self, *, ready: bool = True, within: float = 60) -> Self:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                "-c",
                str(self.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=self.root,
                start_new_session=True,  # a terminal's Ctrl-C is for whoever started us
            )
        if ready:
            await self.until_ready(within)
        return self

    async def until_ready(self, within: float = 60) -> None:
        await self.until("/readyz", lambda status, _: status == 200, within)

    async def until(self, path: str, wanted: Any, within: float = 60) -> Any:
        """Poll a page until `wanted(status, body)`; the daemon has no event to wait on outside."""
        deadline = time.monotonic() + within
        seen: Any = None
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                if self.ended:
                    raise DaemonTrouble(f"the daemon ended: {self.tail()}")
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                        seen = await answer.text()
                        if wanted(answer.status, seen):
                            return seen
                except aiohttp.ClientError as error:
                    seen = error
                await asyncio.sleep(0.02)
        raise DaemonTrouble(f"{path} never came so: {seen}\n{self.tail()}")

    async def get(self, path: str) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def run(self, *arguments: str, columns: int = 80) -> tuple[int, str, str]:
        """Another `postroom` command on the same configuration: status, stdout, stderr. What it
        prints is for a screen of so many columns.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "daemon",
            *arguments,
            "-c",
            str(self.config),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environ, "COLUMNS": str(columns)},
            cwd=self.root,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """Signal it and wait for its end; returns its exit status."""
        assert self._process is not None  # noqa: S101 - it was started
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines of an event name."""
        return [entry for entry in self.entries() if entry.get("event") == event]

    def entries(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                await self.stop(signal.SIGINT, within=30)
            except TimeoutError:
                os.kill(self._process.pid, signal.SIGKILL)
                await self._process.wait()
