"""Follows the daemon while the demo runs, by what any operator has: traces, status and the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

from daemon.demo.board import Board, Row, read_story
from daemon.demo.process import DaemonTrouble
from daemon.demo.stage import Stage

LOOK_SECONDS = 0.1
STATUS_SECONDS = 1.0


class Screen(Protocol):
    """Where the demo is shown."""

    def title(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def refresh(self, status: str) -> None:
        """Rows may have changed; `status` says in one line how the daemon is."""
        ...


class Watch:
    """Keeps the board as the daemon's traces say. `run` lasts until cancelled."""

    def __init__(self, stage: Stage, board: Board, screen: Screen) -> None:
        self._stage, self._board, self.screen = stage, board, screen
        self._looked = asyncio.Event()
        self._read = 0  # bytes of the daemon's log
        self._status, self._status_at = "", 0.0

    @property
    def trouble(self) -> str:
        """Why there is nothing to wait for: the daemon ended, and nobody killed it."""
        ended = self._stage.daemon.ended and not self._stage.down
        return "the daemon ended by itself" if ended else ""

    async def run(self) -> None:
        """Look at everything ten times a second."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            while True:
                await self._look(session)
                self._looked.set()
                self._looked = asyncio.Event()
                await asyncio.sleep(LOOK_SECONDS)

    async def until(self, done: Callable[[], bool], what: str, within: float = 120.0) -> None:
        """Raises DaemonTrouble where it has not come to that in time, or cannot any more."""
        try:
            async with asyncio.timeout(within):
                while not done():
                    if self.trouble:
                        raise DaemonTrouble(self.trouble)
                    await self._looked.wait()
        except TimeoutError:
            raise DaemonTrouble(f"{what}: not within {within:g} s") from None

    async def _look(self, session: aiohttp.ClientSession) -> None:
        if self._stage.daemon.ended:
            self._status = "daemon: dead"
        else:
            try:
                for row in self._board.open:
                    await self._trace(session, row)
                if time.monotonic() - self._status_at > STATUS_SECONDS:
                    self._status = self._line(await self._get(session, "status"))
                    self._status_at = time.monotonic()
            except (aiohttp.ClientError, TimeoutError):
                self._status = "daemon: does not answer"
        self._read_log()
        self.screen.refresh(self._status)

    async def _trace(self, session: aiohttp.ClientSession, row: Row) -> None:
        story = await self._get(session, f"trace/{quote(row.key, safe='')}")
        if "messages" not in story:  # not known yet, or the daemon cannot tell just now
            return
        row.standing = read_story(story, row.key)
        if not row.open and row.standing.refs:
            outside = await self._stage.outside()
            row.answer = "\n\n".join(outside.get(ref, "") for ref in row.standing.refs)

    async def _get(self, session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        """A page of the API; a refusal is an object, too, with an "error"."""
        url = f"http://127.0.0.1:{self._stage.daemon.port}/api/v1/{path}"
        async with session.get(url) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            return found

    def _read_log(self) -> None:
        """Which tool is at work is in no trace: the log says it, one JSON object a line."""
        with self._stage.daemon.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if b'"tool.used"' not in line:
                    continue
                entry = json.loads(line)
                row = self._board.working(entry.get("conversation", ""))
                if row is not None:
                    row.tool = str(entry["tool"]).rpartition("__")[2]

    def _line(self, status: dict[str, Any]) -> str:
        parts = status["components"]
        pool, model = parts["pool"]["numbers"], parts["model"]["numbers"]
        processes = sum(pool.get(state, 0) for state in ("busy", "idle", "spare", "starting"))
        ready = "ready" if status["ready"] else "not ready"
        real = "" if self._stage.model is None else " if it were real"
        return (
            f"daemon: {ready}, up {status['uptime_seconds']:.0f} s; walls: {status['isolation']}; "
            f"{processes} agent processes; model: ${model.get('spent_today_usd', 0):.3f}{real}"
        )
