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
LOOK_SECONDS = 0.05  # between two looks at /readyz: how finely its time is measured


class Victim:
    """One data directory, one process at a time. All that it logs goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        cwd: Path,
        port: int,
        connectors: int,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()  # outcomes of turns that a death cut off
        # Seconds from a start until all connectors are proven, and until /readyz says 200. A life
        # that ended before that gives no sample.
        self.connected_after: list[float] = []
        self.ready_after: list[float] = []
        self.starts = 0
        self._command, self._arguments = tuple(command), tuple(arguments)
        self._environ = dict(environ)
        self._cwd = cwd
        self._log = log.open("ab")
        self._port = port
        self._connectors = connectors
        self._begun = False
        self._ready = 0
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._started = 0.0
        self._heard = asyncio.Condition()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, *options: str) -> None:
        """`options` go to a test-only build, before the daemon's own arguments."""
        self._started, self._begun, self._ready = time.monotonic(), False, 0
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            *options,
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environ,
            cwd=self._cwd,
            limit=2**24,
        )
        self._pump = asyncio.create_task(self._read(self._process))
        self._looking = asyncio.create_task(self._look())

    async def kill(self) -> int:
        """SIGKILL, and wait until it is gone; its exit status is another one if it was already."""
        return await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, as an operator stops it; returns its exit status."""
        return await self._end(signal.SIGTERM)

    def tell_to_stop(self) -> None:
        """SIGTERM, without waiting for the end."""
        assert self._process is not None, "it was started"
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def gone(self, within: float) -> bool:
        """Whether it ends by itself so soon."""
        assert self._process is not None, "it was started"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._process.wait()
        return not self.running

    async def hear(self, event: str, within: float) -> bool:
        """Until the daemon logs this event once more. False: it did not, or the process ended."""
        before = self.counts[event]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._heard:
                await self._heard.wait_for(lambda: self.counts[event] > before or not self.running)
        return self.counts[event] > before

    async def until_begun(self, within: float) -> None:
        """Until it takes a SIGTERM for more than its death, or is dead. Raises TimeoutError."""
        async with asyncio.timeout(within), self._heard:
            await self._heard.wait_for(lambda: self._begun or not self.running)

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
        process, pump, looking = self._process, self._pump, self._looking
        assert process is not None, "it was started"
        assert pump is not None, "it was started"
        assert looking is not None, "it was started"
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
        looking.cancel()
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
        if event == "daemon.started":
            self._begun = True
        elif event == "connector.ready":
            self._ready += 1
            if self._ready == self._connectors:
                self.connected_after.append(time.monotonic() - self._started)
        elif event == "turn.recovered":
            self.recovered[str(entry.get("outcome"))] += 1
        await self._tell()

    async def _look(self) -> None:
        """Until /readyz says 200, as whatever stands before a daemon asks it."""
        while not await self._answers_ready():
            await asyncio.sleep(LOOK_SECONDS)
        self.ready_after.append(time.monotonic() - self._started)

    async def _answers_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    async def _tell(self) -> None:
        async with self._heard:
            self._heard.notify_all()
