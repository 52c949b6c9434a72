"""Who runs next: ready conversations by priority and age, one turn at a time per conversation."""

from __future__ import annotations

import asyncio
import itertools

import structlog

from daemon.clock import Clock
from daemon.model import ConversationId, Priority, ReadyConversation
from daemon.pool import Pool
from daemon.ports import ClaimLimits, Gateway, Ledger
from daemon.runqueue import RunQueue
from daemon.worker import SILENCE_SECONDS

log = structlog.get_logger()

REFRESHED_AT_ONCE = 200  # conversations looked up between two claims
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
        gateway: Gateway,
        clock: Clock,
        debounce: float,
        limits: ClaimLimits | None = None,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._gateway = gateway
        self._clock = clock
        self._debounce = debounce
        self._limits = limits or ClaimLimits()
        self._queue = RunQueue()
        self._changed: set[ConversationId] = set()
        self._event = asyncio.Event()
        self._unread = True
        self.paused = False

    def wake(self, conversation: ConversationId) -> None:
        """Something about a conversation changed: look again."""
        self._changed.add(conversation)
        self._event.set()

    def read_again(self) -> None:
        """All of it: times in the ledger were moved."""
        self._unread = True
        self._event.set()

    def nudge(self) -> None:
        """A slot may be free."""
        self._event.set()

    def place(self, conversation: ConversationId) -> int | None:
        """How many conversations go before this one in chat, which comes now; None: it can begin
        at once, is at work, or has been told before.
        """
        if conversation in self._queue or self._pool.works_on(conversation):
            return None
        if self._pool.has_room(Priority.CHAT) and not self._gateway.rests():
            return None
        return self._queue.ahead(Priority.CHAT, self._clock.now())

    async def run(self) -> None:
        """Until cancelled. Raises LedgerError: what it was about to claim is read anew then."""
        self._unread = True
        while True:
            self._event.clear()
            pause = None if self.paused else await self._dispatch()
            try:
                async with asyncio.timeout(pause):
                    await self._event.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        if self._unread:
            self._unread = False
            for each in await self._ledger.all_ready():
                self._queue.put(each, self._due(each))
        changed = list(itertools.islice(self._changed, REFRESHED_AT_ONCE))
        self._changed.difference_update(changed)
        if not changed:
            return
        found = await self._ledger.ready_among(changed)
        for conversation in changed:
            self._queue.drop(conversation)
        for ready in found:
            self._queue.put(ready, self._due(ready))

    async def _dispatch(self) -> float | None:
        """Start what can start; return seconds until something is due, None when nothing is."""
        while True:
            await self._refresh()  # before each claim: a chat must not wait for a flood to be over
            now = self._clock.now()
            ready = self._queue.take(now, self._classes())
            if ready is None and not self._changed and not self._unread:
                return self._pause(now)
            if ready is None:
                continue
            # No seat: its own process is busy or leaves, and the pool wakes it when that is over.
            seat = self._pool.offer(ready)
            if seat is None:
                continue
            turn = None
            try:
                turn = await self._ledger.claim(ready.id, seat.workspace, self._limits)
            finally:
                if turn is None:
                    self._pool.give_back(seat)
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

    def _classes(self) -> list[Priority]:
        """Whose turns may start now. While the model rests nobody's, but that people in chat are
        told of a long rest: their turns are claimed for that, and put back by the worker.
        """
        rests = self._gateway.rests()
        some = [
            p for p in Priority if not rests or (p is Priority.CHAT and rests > SILENCE_SECONDS)
        ]
        return [priority for priority in some if self._pool.has_room(priority)]

    def _pause(self, now: float) -> float | None:
        waits = [self._gateway.rests()]
        if (due := self._queue.next_due()) is not None:
            waits.append(max(due - now, 0.0))
        return min((wait for wait in waits if wait > 0), default=None)

    def _due(self, ready: ReadyConversation) -> float:
        if ready.not_before:
            return ready.not_before
        close = ready.previous is not None and ready.latest - ready.previous <= self._debounce
        if ready.priority is Priority.CHAT and close:
            return min(ready.latest + self._debounce, ready.since + SETTLE_CAP_SECONDS)
        return ready.since
