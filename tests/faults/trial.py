"""One fault from its beginning to its end: when it was noticed, when all was well again.

    async with trial(stage, times) as it:
        gate = await it.at_work()       # a turn is under way
        it.struck()
        await stage.socket.poison(...)
        await it.red("connector:slack", within=15)
        it.mended()
        await stage.socket.heal()
        await it.well()                 # ready, and every question answered

Leaving it stops the daemon, which must end well, and sees that nothing was lost or came twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from daemon.demo.controls import Gate
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Said
from tests.e2e.looking import eventually
from tests.faults.stage import OPERATORS, Stage

HEAL_SECONDS = 90.0
LOOK_SECONDS = 0.05
PROBE_SECONDS = 2.0  # what a probe of an orchestrator waits for an answer


@dataclass
class Times:
    """Seconds. `noticed_by` says in what; both None where nothing had to be noticed or healed."""

    noticed: float | None = None
    noticed_by: str = ""
    healed: float | None = None
    unclear: int = 0


@dataclass
class Trial:
    stage: Stage
    daemon: DaemonProcess
    times: Times
    excused: set[str] = field(default_factory=set)  # marks that people were told will not come
    _struck: float = 0.0
    _mended: float = 0.0

    # --- the course of it

    async def at_work(self, directives: str = "") -> Gate:
        """A question whose turn is under way, and held by the model until the gate is released."""
        mark = f"mark-{len(self.stage.asked) + 1:04}"
        gate = self.stage.model.hold(mark)
        self.stage.ask(directives)
        await gate.arrived(60)
        return gate

    def struck(self) -> None:
        self._struck = time.monotonic()

    def noticed(self, by: str) -> None:
        """The first notice counts."""
        if self.times.noticed is None:
            self.times.noticed, self.times.noticed_by = time.monotonic() - self._struck, by

    async def until_after(self, seconds: float) -> None:
        """Until so many seconds after the fault began."""
        await asyncio.sleep(self._struck + seconds - time.monotonic())

    async def answered(self, within: float = HEAL_SECONDS) -> None:
        """Until all that was asked is answered, and what of it people were not told will not be."""
        stage = self.stage
        await eventually(
            lambda: not set(stage.lost()) - self.excused, f"answers to {stage.asked}", within
        )

    def mended(self) -> None:
        self._mended = time.monotonic()

    # --- what operators and people see of it

    async def red(self, component: str, *, within: float) -> None:
        """Until `/readyz` is 503 for this component."""
        await self._page(
            "/readyz",
            lambda status, page: status == 503 and component in page["waiting_for"],
            within,
        )
        self.noticed("/readyz")

    async def warned(self, component: str, *, within: float, about: str = "") -> None:
        """Until `/healthz` does not pass for this component."""

        def seen(_: int, page: Any) -> bool:
            part = page["components"][component]
            return part["state"] != "pass" and about in part["detail"]

        await self._page("/healthz", seen, within)
        self.noticed("/healthz")

    async def told(self, said: Said, text: str, *, within: float) -> None:
        """Until the thread is told this."""
        await self.stage.slack.wait_for_posts(
            said.channel, said.root, containing=text, within=within
        )
        self.noticed("its thread")

    async def operators_told(self, text: str, *, within: float) -> None:
        await self.stage.slack.wait_for_posts(OPERATORS, containing=text, within=within)
        self.noticed("daemon.notify")

    async def noted(self, text: str, *, within: float) -> None:
        """Until `/healthz` shows a notice to operators with this in it."""
        await self._page("/healthz", lambda _, page: text in str(page["notices"]), within)
        self.noticed("/healthz")

    async def silent(self, *, within: float) -> None:
        """Until `/livez` gives no answer in the time of a probe."""

        async def answers() -> bool:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    return (await self.daemon.get("/livez"))[0] == 200
            except (TimeoutError, aiohttp.ClientError):
                return False

        async with asyncio.timeout(within):
            while await answers():
                await asyncio.sleep(LOOK_SECONDS)
        self.noticed("/livez")

    async def _page(self, path: str, wanted: Callable[[int, Any], bool], within: float) -> None:
        await self.daemon.until(path, lambda status, text: wanted(status, json.loads(text)), within)

    # --- its end

    async def well(self, within: float = HEAL_SECONDS) -> None:
        """Until all that was asked is answered, the daemon ready and nothing left to do; and then,
        until every component passes again (but for dead letters, which wait for a person).
        """
        await self.answered(within)
        await self.daemon.until_ready(within)
        await self._page("/healthz", _idle, within)
        self.times.healed = time.monotonic() - self._mended
        await self._page("/healthz", _passes, within)

    async def tally(self) -> None:
        """Stop it, and see what is lost and what came twice."""
        await self._page("/healthz", _idle, HEAL_SECONDS)
        _, page = await self.daemon.get("/healthz")
        self.times.unclear = page["components"]["ledger"]["numbers"]["outbox_unclear"]
        assert await self.daemon.stop() == 0, self.daemon.tail()
        lost = set(self.stage.lost()) - self.excused
        assert not lost, f"lost: {lost}"
        assert not self.stage.twice(), f"twice: {self.stage.twice()}"


def _idle(_: int, page: Any) -> bool:
    numbers = page["components"]["ledger"]["numbers"]
    busy = ("waiting", "running", "queued", "outbox_pending", "outbox_sending")
    return not any(numbers[name] for name in busy)


def _passes(_: int, page: Any) -> bool:
    return all(
        part["ready"] and (part["state"] == "pass" or "dead letters" in part["detail"])
        for part in page["components"].values()
    )


@asynccontextmanager
async def trial(stage: Stage, times: Times, **tables: Any) -> AsyncIterator[Trial]:
    """A daemon that is ready and has answered once; at the end it is stopped and looked at."""
    daemon = stage.daemon(**tables)
    async with daemon:
        it = Trial(stage, daemon, times)
        stage.ask()
        await it.answered()
        yield it
        await it.tally()
