"""The daemon as a process that is killed and started again; its log lines are events to aim at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

STOP_SECONDS = 60.0
PUMP_SECONDS = 2.0


class Victim:
    """One data directory, one process at a time. All that it logs goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        cwd: Path,
        connectors: int,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()  # outcomes of turns that a death cut off
        self.ready_after: list[float] = []  # seconds from a start until all connectors are proven
        self._command = tuple(command)
        self._environ = dict(environ)
        self._cwd = cwd
        self._log = log.open("ab")
        self._connectors = connectors
        self._ready = 0
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._started = 0.0
        self._heard = asyncio.Condition()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        self._started, self._ready = time.monotonic(), 0
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environ,
            cwd=self._cwd,
            limit=2**24,
        )
        self._pump = asyncio.create_task(self._read(self._process))

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, as an operator stops it; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def hear(self, event: str, within: float) -> bool:
        """Until the daemon logs this event once more. False: it did not, or the process ended."""
        before = self.counts[event]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._heard:
                await self._heard.wait_for(lambda: self.counts[event] > before or not self.running)
        return self.counts[event] > before

    async def until_ready(self, within: float) -> None:
        """Until every connector is proven. Raises TimeoutError."""
        async with asyncio.timeout(within), self._heard:
            await self._heard.wait_for(lambda: self._ready >= self._connectors)

    def clis(self) -> list[psutil.Process]:
        """The CLI processes that it has started."""
        if self._process is None or not self.running:
            return []
        try:
            below = psutil.Process(self._process.pid).children(recursive=True)
            return [process for process in below if process.name() == "claude"]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        self._log.close()

    async def _end(self, number: signal.Signals) -> int:
        process, pump = self._process, self._pump
        assert process is not None, "it was started"
        assert pump is not None, "it was started"
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
        # Its last lines; a child that is just dying may hold the pipe open a little longer.
        await asyncio.wait({pump}, timeout=PUMP_SECONDS)
        pump.cancel()
        return status

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "it is a pipe"
        try:
            async for line in process.stdout:
                self._log.write(line)
                self._log.flush()
                with contextlib.suppress(ValueError):
                    await self._note(json.loads(line))
        finally:
            await self._tell()

    async def _note(self, entry: dict[str, Any]) -> None:
        event = str(entry.get("event"))
        self.counts[event] += 1
        if event == "connector.ready":
            self._ready += 1
            if self._ready == self._connectors:
                self.ready_after.append(time.monotonic() - self._started)
        elif event == "turn.recovered":
            self.recovered[str(entry.get("outcome"))] += 1
        await self._tell()

    async def _tell(self) -> None:
        async with self._heard:
            self._heard.notify_all()
