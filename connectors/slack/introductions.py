"""Finding out who the senders are whose messages wait for it, beside the stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from connectors.slack.people import People
from connectors.slack.web import Refused
from daemon.clock import Clock
from daemon.errors import LedgerError, Unavailable
from daemon.model import Identity
from daemon.ports import Intake
from daemon.retries import patiently

log = structlog.get_logger()

REFUSED_SECONDS = 300.0  # users.info itself refused: somebody has to mend the app's scopes
LONGEST_WAIT_SECONDS = 60.0
AT_ONCE = 8


class Introductions:
    """Asks for each wanted sender once at a time. `trouble` says why it cannot, for health."""

    def __init__(
        self,
        *,
        name: str,
        people: People,
        clock: Clock,
        introduced: Callable[[Identity], Awaitable[None]],
    ) -> None:
        self.trouble = ""
        self._name = name
        self._people = people
        self._clock = clock
        self._introduced = introduced
        self._wanted: set[str] = set()
        self._asking: set[str] = set()
        self._changed = asyncio.Event()

    def want(self, sender: str) -> None:
        """Messages of this sender wait; to be called after they are registered."""
        self._wanted.add(sender)
        self._changed.set()

    async def run(self, intake: Intake) -> None:
        """Until cancelled. Raises LedgerError when it cannot even ask who waits."""
        for sender in await intake.unidentified(self._name):
            self.want(sender)
        async with asyncio.TaskGroup() as group:
            while True:
                for sender in list(self._wanted - self._asking)[: AT_ONCE - len(self._asking)]:
                    self._wanted.discard(sender)
                    self._asking.add(sender)
                    group.create_task(self._introduce(intake, sender))
                self._changed.clear()
                await self._changed.wait()

    async def _introduce(self, intake: Intake, sender: str) -> None:
        """Tell who somebody is, however long it takes: their messages wait, none is lost."""
        retried = patiently(
            self._clock,
            longest=LONGEST_WAIT_SECONDS,
            heard=self._failed,
            over=(Unavailable, LedgerError, Refused),
        )
        try:
            identity: Identity = await retried(self._tell, intake, sender)
            self.trouble = ""
            await self._introduced(identity)
        finally:
            self._asking.discard(sender)
            self._changed.set()

    async def _tell(self, intake: Intake, sender: str) -> Identity:
        identity = await self._people.resolve(sender)
        await intake.identify(self._name, identity)
        return identity

    def _failed(self, error: BaseException, tries: int) -> float | None:
        log.warning("sender.not_identified", reason=str(error), attempt=tries)
        if isinstance(error, Refused):
            self.trouble = f"users.info: {error}"
            return REFUSED_SECONDS
        return None
