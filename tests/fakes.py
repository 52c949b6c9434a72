"""Fakes behind the ports of daemon/ports.py, for the tests of several parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from daemon.errors import LedgerError
from daemon.model import (
    ConversationId,
    Cursor,
    Decision,
    Deleted,
    Edited,
    EffectId,
    EffectKind,
    Heard,
    Identity,
    Ignored,
    Inbound,
    KnownConversation,
    Message,
    MessageId,
    Outcome,
    Registered,
    Stop,
    Unreadable,
)

T = TypeVar("T")

PATIENCE_SECONDS = 20.0


@dataclass
class RecordingIntake:
    """The port `Intake`, in memory: keeps what was accepted, tells duplicates apart by their keys.

    `failures` is how many of the next `accept` calls raise LedgerError and register nothing.
    `gate`, while there is one, holds each `accept` back before anything is registered; `begun`
    counts the calls that have begun. `fullness` is what `full` says.
    `waiting` are the senders that `unidentified` names, `conversations` what is found by a name,
    `ours` the active conversations.
    """

    failures: int = 0
    gate: asyncio.Event | None = None
    begun: int = 0
    fullness: str = ""
    waiting: tuple[str, ...] = ()
    conversations: dict[str, KnownConversation] = field(default_factory=dict)
    ours: tuple[ConversationId, ...] = ()
    items: list[Inbound] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[Inbound] = field(default_factory=list)
    identities: list[Identity] = field(default_factory=list)
    cursors: dict[tuple[str, str], Cursor] = field(default_factory=dict)
    _keys: set[tuple[str, str]] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def accept(self, item: Inbound, cursor: Cursor | None = None) -> Registered:
        self.begun += 1
        self._tell()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            self.refused.append(item)
            self._tell()
            raise LedgerError("the disk is full")
        self.items.append(item)
        if cursor is not None:
            self.cursors[cursor.connector, cursor.folder] = cursor
        registered = Registered(Outcome.NEW)
        if not isinstance(item, Decision):
            registered = self._register(item)
        self.outcomes.append(registered.outcome)
        self._tell()
        return registered

    def _register(self, item: Heard | Edited | Deleted) -> Registered:
        alternate = getattr(item, "alternate_id", None)
        known = (item.connector, item.outside_id) in self._keys
        if isinstance(item, Deleted):
            return Registered(Outcome.WITHDRAWN if known else Outcome.IGNORED)
        if isinstance(item, Edited):
            return Registered(Outcome.REVISED) if known else self._register(item.message)
        keys = {(item.connector, key) for key in (item.outside_id, alternate) if key}
        if keys & self._keys:
            return Registered(Outcome.DUPLICATE)
        self._keys |= keys
        message = MessageId(f"msg-{len(self.items)}")
        match item:
            case Message(sender=sender) if sender.trust is None:
                return Registered(Outcome.UNIDENTIFIED, message, item.conversation)
            case Message() if item.addressed:
                return Registered(Outcome.NEW, message, item.conversation)
            case Stop():
                return Registered(Outcome.NEW, message, item.conversation)
            case Unreadable():
                return Registered(Outcome.UNREADABLE, message)
            case Message() | Ignored():
                return Registered(Outcome.IGNORED, message)

    async def identify(self, connector: str, identity: Identity) -> None:
        if self.failures:
            self.failures -= 1
            raise LedgerError("the disk is full")
        self.identities.append(identity)
        self._tell()

    async def unidentified(self, connector: str) -> tuple[str, ...]:
        return self.waiting

    async def cursor(self, connector: str, folder: str) -> Cursor | None:
        return self.cursors.get((connector, folder))

    async def set_cursor(self, cursor: Cursor) -> None:
        self.cursors[cursor.connector, cursor.folder] = cursor
        self._tell()

    async def find_conversation(
        self, connector: str, names: Sequence[str]
    ) -> KnownConversation | None:
        return next(
            (self.conversations[name] for name in names if name in self.conversations), None
        )

    async def knows(self, connector: str, outside_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(key for key in outside_ids if (connector, key) in self._keys)

    def full(self) -> str:
        return self.fullness

    async def active_conversations(
        self, connector: str, since: float, limit: int
    ) -> tuple[ConversationId, ...]:
        """Those of `ours`, whenever anything was said in them."""
        del connector, since
        return self.ours[:limit]

    # --- looking

    @property
    def messages(self) -> list[Message]:
        """The messages accepted, without their duplicates."""
        pairs = zip(self.items, self.outcomes, strict=True)
        return [
            item
            for item, outcome in pairs
            if isinstance(item, Message) and outcome is not Outcome.DUPLICATE
        ]

    async def until(self, condition: Callable[[], T | None]) -> T:
        """The first truthy value of `condition`, looked at whenever something has come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (value := condition()):
                self._changed.clear()
                await self._changed.wait()
        return value

    async def message(self, count: int = 1) -> Message:
        """The `count`-th message, once it has come."""
        await self.until(lambda: len(self.messages) >= count)
        return self.messages[count - 1]

    def _tell(self) -> None:
        self._changed.set()


@dataclass
class CountingOutbox:
    """The port `Outbox`: answers what it is told to."""

    sent: int = 0
    refs: dict[EffectId, str] = field(default_factory=dict)
    asked: list[tuple[EffectKind, float, ConversationId | None, str | None]] = field(
        default_factory=list
    )

    async def count_sent(
        self,
        connector: str,
        kind: EffectKind,
        since: float,
        *,
        conversation: ConversationId | None = None,
        sender: str | None = None,
    ) -> int:
        self.asked.append((kind, since, conversation, sender))
        return self.sent

    async def sent_as(self, effect: EffectId) -> str | None:
        return self.refs.get(effect)
