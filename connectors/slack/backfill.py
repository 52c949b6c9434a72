"""Back-fill: what people wrote while nothing proved that events come is owed until it is read back.

When inbound was last proven is kept on disk, so that a restart is a gap like any other. What is
read, and how: missed.py. Events go on meanwhile, and go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from connectors.slack import kept
from connectors.slack.missed import Missed, moment
from daemon.clock import Clock
from daemon.ports import Intake

log = structlog.get_logger()

MARGIN_SECONDS = 600.0  # Slack's own deliveries may be minutes late: python-slack-sdk #1280
LONGEST_SECONDS = 24 * 3600.0  # what waited longer is not answered: as a turn is given up on
KEEP_EVERY_SECONDS = 60.0


class BackFill:
    """`path` is the file that remembers. `proof` gives the age in seconds of the last proof; None:
    nothing proves anything now. `rest` seconds lie between two runs. `running`, `runs` (how many
    ended) and `trouble` are for health.
    """

    def __init__(
        self,
        *,
        name: str,
        path: Path,
        clock: Clock,
        missed: Missed,
        proof: Callable[[], float | None],
        rest: float,
    ) -> None:
        self.running = False
        self.runs = 0
        self._name = name
        self._path = path
        self._clock = clock
        self._missed = missed
        self._proof = proof
        self._rest = rest
        self._bot = ""
        self._first = 0.0  # nothing that was written before we were first here is ours
        self._proven_at = 0.0
        self._owed: list[float] = []
        self._changed = asyncio.Event()

    @property
    def trouble(self) -> str:
        return self._missed.trouble

    def owe(self, proven_at: float) -> None:
        """Inbound is proven again, and was not since `proven_at`."""
        self._owed.append(proven_at)
        self._changed.set()

    def regained(self, age: float | None) -> None:
        """A connection is proven and no other was, the last one so many seconds ago. None: never in
        this run; then what a former one has kept counts.
        """
        self.owe(self._proven_at if age is None else self._clock.now() - age)

    # --- what is remembered

    async def load(self, bot: str) -> None:
        """Before the first connection is opened. What another bot left behind is not believed."""
        if bot == self._bot:
            return
        facts = await asyncio.to_thread(kept.read, self._path) or {}
        now = self._clock.now()
        known = facts.get("bot") == bot
        self._bot = bot
        self._first = moment(facts.get("first_at"), now) if known else now
        self._proven_at = moment(facts.get("proven_at"), now) if known else now

    async def keep(self) -> None:
        """Until cancelled: remember, now and then, up to when nothing is owed."""
        while True:
            await self._remember()
            await self._clock.sleep(KEEP_EVERY_SECONDS)

    async def _remember(self) -> None:
        age = self._proof()
        if age is not None:
            self._proven_at = max(self._proven_at, self._clock.now() - age)
        since = min([self._proven_at, *self._owed])
        facts = {"bot": self._bot, "first_at": self._first, "proven_at": since}
        try:
            await asyncio.to_thread(kept.write, self._path, facts)
        except OSError as error:
            log.warning("backfill.not_remembered", connector=self._name, reason=str(error))

    # --- paying it off

    async def run(self, intake: Intake) -> None:
        """Until cancelled. Raises OwnershipLost."""
        while True:
            self._changed.clear()
            if self._owed:
                await self._pay(intake)
                await self._clock.sleep(self._rest)
            else:
                await self._changed.wait()

    async def _pay(self, intake: Intake) -> None:
        """Gaps that open meanwhile stay owed, as all of it does if this is cancelled."""
        paid = list(self._owed)
        proven_at, began = min(paid), self._clock.now()
        since = max(proven_at - MARGIN_SECONDS, self._first, began - LONGEST_SECONDS)
        if since > proven_at > self._first:
            log.warning("backfill.cut_short", connector=self._name, gap=round(began - proven_at))
        self.running = True
        try:
            places = await self._missed.read(intake, since)
        finally:
            self.running = False
        del self._owed[: len(paid)]
        await self._remember()
        self.runs += 1
        log.info(
            "backfill.finished",
            connector=self._name,
            since=since,
            places=places,
            seconds=round(self._clock.now() - began, 1),
        )
