"""The daemon's side of the parsing process: starts it when a mail comes, ends it when none does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from connectors.imap.parse import Parsed
from daemon import programs
from daemon.errors import Unavailable

log = structlog.get_logger()

TOO_SLOW = "it took too long to read"
DIED = "reading it ended the parsing process"
_COMMAND = (sys.executable, "-I", "-m", "connectors.imap.reader")
_LONGEST_ANSWER = 32 << 20  # bytes; a line of JSON with every field at its limit is below


@dataclass(frozen=True, slots=True)
class ParsingTimes:
    """Seconds: for one mail, for the process to come up, and how long it may stand idle."""

    deadline: float = 10.0
    start: float = 60.0
    idle: float = 120.0


class Parsing:
    """One parsing process at most. One task at a time asks it.

    A mail that it cannot take apart, or not in time, comes back `broken`. Raises Unavailable where
    no process can be started.
    """

    def __init__(
        self, times: ParsingTimes | None = None, command: tuple[str, ...] = _COMMAND
    ) -> None:
        self._times = times or ParsingTimes()
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._killed: list[asyncio.subprocess.Process] = []
        self._starting = asyncio.Lock()
        self._retirement: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def parse(self, path: Path) -> Parsed:
        self._stay()
        try:
            # Twice: it may have ended between two mails, and that is no fault of this one.
            for _ in range(2):
                process = await self._ready()
                try:
                    async with asyncio.timeout(self._times.deadline):
                        answer = await self._ask(process, path)
                except TimeoutError:
                    log.warning("parsing.timed_out", path=path.name)
                    await self.close()
                    return Parsed(broken=TOO_SLOW)
                if answer is not None:
                    return answer
                await self.close()
            log.warning("parsing.died", path=path.name)
            return Parsed(broken=DIED)
        except BaseException:
            self._kill()  # an answer that nobody waits for would be taken for the next mail's
            raise
        finally:
            self._retire_later()

    async def each(self, paths: Iterable[Path]) -> AsyncGenerator[Parsed, None]:
        """In their order. The next mail is taken apart while the caller is busy with one."""
        rest = iter(paths)
        ahead = self._begin(next(rest, None))
        try:
            while ahead is not None:
                parsed = await ahead
                ahead = self._begin(next(rest, None))
                yield parsed
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait([ahead])

    def _begin(self, path: Path | None) -> asyncio.Task[Parsed] | None:
        return None if path is None else asyncio.create_task(self.parse(path))

    async def warm(self) -> None:
        """Have a process ready while a mail is still on its way. Best effort: never raises."""
        self._stay()
        with contextlib.suppress(Unavailable):
            await self._ready()
        self._retire_later()

    async def close(self) -> None:
        self._stay()
        async with self._starting:  # one that is just coming up is seen, and ended as well
            self._kill()
            await self._see_gone()

    async def _ready(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return self._process
            self._kill()
            await self._see_gone()
            try:
                return await self._start()
            except (OSError, TimeoutError) as error:
                raise Unavailable(
                    f"the parsing process does not start ({type(error).__name__})"
                ) from error

    async def _start(self) -> asyncio.subprocess.Process:
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        process = await programs.start(self._command, env=env, limit=_LONGEST_ANSWER)
        self._process = process
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            async with asyncio.timeout(self._times.start):
                await process.stdout.readline()
        except BaseException:
            self._kill()
            raise
        return process

    @staticmethod
    async def _ask(process: asyncio.subprocess.Process, path: Path) -> Parsed | None:
        """None: it ended instead of answering, or its answer is none (as of another version, whose
        files were put in place while we run).
        """
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101 - the same
        with contextlib.suppress(ConnectionError, ValueError, TypeError):
            process.stdin.write(json.dumps(str(path)).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            if line.endswith(b"\n"):
                return Parsed(**json.loads(line))
        return None

    def _kill(self) -> None:
        if self._process is not None:
            programs.kill(self._process)
            self._killed.append(self._process)
        self._process = None

    async def _see_gone(self) -> None:
        while self._killed:
            await programs.see_gone(self._killed[-1])
            self._killed.pop()

    def _stay(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None

    def _retire_later(self) -> None:
        self._stay()
        if self._process is not None:
            loop = asyncio.get_running_loop()
            self._retirement = loop.call_later(self._times.idle, self._kill)
