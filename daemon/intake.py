"""Intake: registers what connectors hear. When `accept` returns, the row is on disk."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from daemon import texts
from daemon.approvals import Approvals
from daemon.clock import Clock
from daemon.errors import Unavailable
from daemon.metrics import Metrics
from daemon.model import (
    Answer,
    ConversationId,
    Cursor,
    Decision,
    Deleted,
    Edited,
    Identity,
    Inbound,
    KnownConversation,
    Message,
    Outcome,
    Priority,
    Registered,
    Stop,
    StoredMessage,
    Trust,
)
from daemon.ports import Connector, HasButtons, Ledger, ShowsActivity

log = structlog.get_logger()

LONG_QUEUE = 20  # conversations; behind so many a passing sign is not enough

_READY = (Outcome.NEW, Outcome.MERGED)


class LedgerIntake:
    """The port `Intake` over the ledger: register, then wake whoever works on it.

    `place` says how many conversations go before one in chat that comes now (None: nothing that is
    worth telling), `full` why what can wait outside had better wait there (empty: it need not).
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        connectors: Mapping[str, Connector],
        approvals: Approvals,
        wake: Callable[[ConversationId], None],
        place: Callable[[ConversationId], int | None],
        stop: Callable[[ConversationId], bool],
        wake_delivery: Callable[[str], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        full: Callable[[], str],
    ) -> None:
        self.closed = False
        self._connectors = connectors
        self._approvals = approvals
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._wake = wake
        self._place = place
        self._stop = stop
        self._wake_delivery = wake_delivery
        self._spawn = spawn
        self._full = full

    async def accept(self, item: Inbound, cursor: Cursor | None = None) -> Registered:
        """Register an item durably. Raises LedgerError, or Unavailable while draining: in both
        cases nothing is acknowledged, and the outside brings it again.
        """
        if self.closed:
            raise Unavailable("intake is closed")
        began = self._clock.monotonic()
        registered = await self._keep(item, cursor)
        self._metrics.register_seconds.observe(self._clock.monotonic() - began)
        self._metrics.messages_received.labels(item.connector, registered.outcome.value).inc()
        log.info(
            "message.registered",
            connector=item.connector,
            message=registered.message,
            conversation=registered.conversation,
            outcome=registered.outcome.value,
        )
        if isinstance(item, Stop):
            if registered.outcome is not Outcome.DUPLICATE:
                await self._end(item.conversation, registered.called_off)
        elif isinstance(item, Message):
            await self._follow(item, registered, began)
        elif isinstance(item, Edited):
            await self._follow(item.message, registered, began)
        elif isinstance(item, Deleted):
            await self._let_go(item, registered)
        return registered

    async def _keep(self, item: Inbound, cursor: Cursor | None) -> Registered:
        if isinstance(item, Decision):
            return await self._decide(item)
        if isinstance(item, Edited):
            return await self._ledger.revise(item)
        if isinstance(item, Deleted):
            return await self._ledger.withdraw(item)
        return await self._ledger.register(item, cursor)

    async def _decide(self, item: Decision) -> Registered:
        """Whoever's word does not count is told so, and nobody else."""
        ruling = await self._approvals.decide(item.approval, item.sender, approve=item.approve)
        connector = self._connectors.get(item.connector)
        if ruling.told and isinstance(connector, HasButtons):
            self._spawn(connector.whisper(item.target, ruling.told))
        return Registered(Outcome.NEW if ruling.counted else Outcome.IGNORED)

    async def _let_go(self, item: Deleted, registered: Registered) -> None:
        """What waited behind a message that was taken back goes on; its sign goes."""
        await self._go_on(registered.taken_up)
        if registered.outcome is not Outcome.WITHDRAWN or registered.conversation is None:
            return
        self._wake(registered.conversation)
        connector = self._connectors.get(item.connector)
        if registered.idle and isinstance(connector, ShowsActivity):
            self._spawn(connector.show_activity(item.target, ""))

    async def _follow(self, message: Message, registered: Registered, began: float) -> None:
        if registered.outcome in _READY and registered.conversation is not None:
            in_chat = message.priority is Priority.CHAT  # nobody sits and waits before a mail
            place = self._place(registered.conversation) if in_chat else None
            self._wake(registered.conversation)
            self._spawn(self._first_sign(message, began, place))
        elif registered.outcome is Outcome.UNIDENTIFIED and message.addressed:
            self._spawn(self._first_sign(message, began, None))
        elif registered.outcome is Outcome.LEFT_OUT and registered.tell:
            await self._say(message, "left-out", texts.LEFT_OUT)
        await self._go_on(registered.taken_up)

    async def _first_sign(self, message: Message, began: float, place: int | None) -> None:
        connector = self._connectors.get(message.connector)
        if not isinstance(connector, ShowsActivity):
            return
        await connector.show_activity(message.target, _sign(place))
        self._metrics.first_signal_seconds.observe(self._clock.monotonic() - began)
        if place is not None and place >= LONG_QUEUE:
            await self._say(message, "place", texts.LONG_QUEUE.format(ahead=place))

    async def _say(self, message: Message, about: str, text: str) -> None:
        """A sentence of ours to a message's author, once for each `about`."""
        effects = await self._connectors[message.connector].compose(
            Answer(
                key=f"{message.connector}/{message.outside_id}/{about}",
                conversation=message.conversation,
                connector=message.connector,
                trust=Trust.PUBLIC,
                messages=(message,),
                text=text,
                final=False,
            )
        )
        await self._ledger.add_effects(effects)
        self._wake_delivery(message.connector)

    async def stop(self, conversation: ConversationId) -> bool:
        """End what runs of a conversation and what waits in it. False: there is nothing."""
        return await self._end(conversation, await self._ledger.call_off(conversation))

    async def _end(self, conversation: ConversationId, called_off: Sequence[StoredMessage]) -> bool:
        """What was called off is in the ledger; a turn that runs says itself that it stopped."""
        running = self._stop(conversation)
        if called_off:
            log.info("messages.called_off", conversation=conversation, messages=len(called_off))
            self._wake(conversation)
            last = called_off[-1].message
            connector = self._connectors.get(last.connector)
            if not running:
                await self._say(last, "stopped", texts.STOPPED)
            if not running and isinstance(connector, ShowsActivity):
                self._spawn(connector.show_activity(last.target, ""))
        return running or bool(called_off)

    async def identify(self, connector: str, identity: Identity) -> None:
        await self._go_on(await self._ledger.identify(connector, identity))

    async def _go_on(self, released: Sequence[Registered]) -> None:
        """Messages that had to wait until something became known of them."""
        for registered in released:
            if registered.outcome in _READY and registered.conversation is not None:
                self._wake(registered.conversation)
            elif registered.outcome is Outcome.LEFT_OUT and registered.tell and registered.message:
                stored = await self._ledger.message(registered.message)
                if stored is not None:
                    await self._say(stored.message, "left-out", texts.LEFT_OUT)

    async def unidentified(self, connector: str) -> tuple[str, ...]:
        return await self._ledger.unidentified(connector)

    async def cursor(self, connector: str, folder: str) -> Cursor | None:
        return await self._ledger.cursor(connector, folder)

    async def set_cursor(self, cursor: Cursor) -> None:
        await self._ledger.set_cursor(cursor)

    async def find_conversation(
        self, connector: str, names: Sequence[str]
    ) -> KnownConversation | None:
        return await self._ledger.find_conversation(connector, names)

    async def knows(self, connector: str, outside_ids: Sequence[str]) -> frozenset[str]:
        return await self._ledger.knows(connector, outside_ids)

    async def active_conversations(
        self, connector: str, since: float, limit: int
    ) -> tuple[ConversationId, ...]:
        return await self._ledger.active_conversations(connector, since, limit)

    def full(self) -> str:
        return self._full()


def _sign(place: int | None) -> str:
    if place is None:
        return texts.WORKING
    return texts.QUEUED.format(ahead=place) if place > 1 else texts.NEXT
