"""Has bodies judged (`body.py`): small ones here, large ones in a process of its own.

Reading JSON holds the interpreter's lock: many megabytes of it would keep the whole daemon waiting.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog

from daemon import programs
from daemon.gateway import body
from daemon.gateway.body import Asked, Improper, Judged

log = structlog.get_logger()

HERE = 64 * 1024  # bytes; the worst of this size keeps the loop for some 10 ms (measured)
DEADLINE_SECONDS = 10.0
_COMMAND = (sys.executable, "-I", "-S", str(Path(body.__file__).resolve()))
_BUFFER = 1 << 20


class Unread(Exception):
    """A body could not be read in time: nothing is known of it, and it may be sent again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    improper: str
    asked: Asked | None
    head: bytes


class Inspection:
    """Judges for agents with this model, whose bodies go up `without` some keys. One process at
    most, started when it is first needed.
    """

    def __init__(self, model: str, without: Collection[str] = ()) -> None:
        self._model, self._without = model, tuple(without)
        self._process: asyncio.subprocess.Process | None = None
        self._busy = asyncio.Lock()

    async def judge(self, data: bytes, *, counts: bool) -> Judged:
        """See `body.judge`. Raises Improper, and Unread."""
        if len(data) <= HERE:
            return body.judge(data, self._model, counts=counts, without=self._without)
        async with self._busy:
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    answer = await self._ask(data, counts=counts)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
                log.warning("gateway.body_unread", size=len(data))
                await self.close()
                raise Unread from None
            except BaseException:
                await self.close()  # an answer that nobody waits for would be taken for the next's
                raise
        if answer.asked is None:
            raise Improper(answer.improper)
        return Judged(answer.asked, answer.head)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            programs.kill(process)
            await programs.see_gone(process)

    async def _ask(self, data: bytes, *, counts: bool) -> _Answer:
        process = await self._ready()
        assert process.stdin is not None  # noqa: S101 - pipes, as it was started
        assert process.stdout is not None  # noqa: S101
        told = {
            "size": len(data),
            "model": self._model,
            "counts": counts,
            "without": self._without,
        }
        process.stdin.write(json.dumps(told).encode() + b"\n")
        # As one piece it would be copied whole, on the loop.
        for at in range(0, len(data), _BUFFER):
            process.stdin.write(data[at : at + _BUFFER])
            await process.stdin.drain()
        answer = json.loads(await process.stdout.readline())
        head = await process.stdout.readexactly(answer["size"])
        asked = Asked(**answer["asked"]) if "asked" in answer else None
        return _Answer(answer.get("improper", ""), asked, head)

    async def _ready(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await programs.start(_COMMAND, env={}, limit=_BUFFER)
        return self._process
