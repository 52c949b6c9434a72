"""Who runs next: ready conversations by priority and age, one turn at a time per conversation."""

from __future__ import annotations

import asyncio

import structlog

from daemon.clock import Clock
from daemon.model import ConversationId, Priority, ReadyConversation
from daemon.pool import Pool
from daemon.ports import ClaimLimits, Ledger

log = structlog.get_logger()

AGEING_SECONDS = 300.0  # a conversation that waited this long moves up one class of priority
SETTLE_CAP_SECONDS = 3.0  # a stream of messages delays its own turn no longer than this


class Dispatcher:
    """Keeps what is ready in memory, rebuilt from the ledger at start; the ledger decides.

    `debounce` is seconds a chat conversation rests after a message that followed another closely.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pool: Pool,
        clock: Clock,
        debounce: float,
        limits: ClaimLimits | None = None,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._clock = clock
        self._debounce = debounce
        self._limits = limits or ClaimLimits()
        self._ready: dict[ConversationId, ReadyConversation] = {}
        self._changed: set[ConversationId] = set()
        self._event = asyncio.Event()
        self.paused = False

    def wake(self, conversation: ConversationId) -> None:
        """Something about a conversation changed: look again."""
        self._changed.add(conversation)
        self._event.set()

    def nudge(self) -> None:
        """A slot may be free."""
        self._event.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._ready = {c.id: c for c in await self._ledger.all_ready()}
        while True:
            self._event.clear()
            await self._refresh()
            pause = None if self.paused else await self._dispatch()
            try:
                async with asyncio.timeout(pause):
                    await self._event.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        changed, self._changed = self._changed, set()
        for conversation in changed:
            ready = await self._ledger.ready(conversation)
            if ready is None:
                self._ready.pop(conversation, None)
            else:
                self._ready[conversation] = ready

    async def _dispatch(self) -> float | None:
        """Start what can start; return seconds until something is due, None when nothing is."""
        if not self._pool.has_room():
            return None
        now = self._clock.now()
        soonest: float | None = None
        for ready in sorted(self._ready.values(), key=lambda r: order(r, now)):
            wait = self._due(ready) - now
            if wait > 0:
                soonest = wait if soonest is None else min(soonest, wait)
                continue
            seat = self._pool.offer(ready)
            if seat is None:
                if not self._pool.has_room():
                    break
                continue
            turn = None
            try:
                turn = await self._ledger.claim(ready.id, seat.workspace, self._limits)
            finally:
                if turn is None:
                    self._pool.give_back(seat)
            self._ready.pop(ready.id, None)
            if turn is None:
                continue
            log.info(
                "turn.claimed",
                turn=turn.id,
                conversation=turn.conversation,
                messages=len(turn.messages),
                waited=round(now - ready.since, 3),
            )
            self._pool.assign(seat, turn)
        return soonest

    def _due(self, ready: ReadyConversation) -> float:
        if ready.not_before:
            return ready.not_before
        close = ready.previous is not None and ready.latest - ready.previous <= self._debounce
        if ready.priority is Priority.CHAT and close:
            return min(ready.latest + self._debounce, ready.since + SETTLE_CAP_SECONDS)
        return ready.since


def order(ready: ReadyConversation, now: float) -> tuple[float, float]:
    """Lower first: priority, one class better for each AGEING_SECONDS waited; then the oldest."""
    return (ready.priority - int((now - ready.since) / AGEING_SECONDS), ready.since)
