"""Every implementation of the port `Ledger`, and what its tests put into one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from daemon.clock import Clock, ManualClock
from daemon.ledger import open_ledger
from daemon.model import (
    ConversationId,
    EffectKind,
    Message,
    NewEffect,
    Outcome,
    Priority,
    ProcessRef,
    Registered,
    Sender,
    Trust,
    Turn,
    TurnState,
    Workspace,
    effect_id,
)
from daemon.ports import ClaimLimits, Ending, Ledger

PROCESS = ProcessRef(4711, 99)
LIMITS = ClaimLimits()


@dataclass(frozen=True, slots=True)
class Implementation:
    """How a ledger is opened by its owner, and by one who takes it from an owner that lives."""

    name: str
    open: Callable[[Path, Clock], Awaitable[Ledger]]
    usurp: Callable[[Path, Clock], Awaitable[Ledger]]


async def _usurp_sqlite(data_dir: Path, clock: Clock) -> Ledger:
    """What happens where somebody removes the lock of a daemon that runs."""
    (data_dir / "lock").unlink()
    return await open_ledger(data_dir, clock)


IMPLEMENTATIONS = (Implementation("sqlite", open_ledger, _usurp_sqlite),)


def workspace(root: Path, name: str = "ws-1") -> Workspace:
    return Workspace(name, root / "conversations" / name, f"session-of-{name}")


@dataclass
class Stage:
    """A ledger that is open, its clock, and short words for what flows through it."""

    implementation: Implementation
    root: Path
    ledger: Ledger
    clock: ManualClock = field(default_factory=ManualClock)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def reopen(self) -> Ledger:
        """The next daemon on the same data directory."""
        await self.ledger.close()
        self.ledger = await self.implementation.open(self.root, self.clock)
        return self.ledger

    def message(
        self,
        text: str = "hello",
        conversation: str = "t1",
        *,
        sender: str = "ada",
        trust: Trust | None = Trust.MEMBER,
        outside_id: str = "",
        alternate_id: str | None = None,
        addressed: bool = True,
        names: tuple[str, ...] = (),
        priority: Priority = Priority.CHAT,
        connector: str = "chat",
        raw: str | None = None,
    ) -> Message:
        return Message(
            connector=connector,
            outside_id=outside_id or f"m{next(self._numbers)}",
            alternate_id=alternate_id,
            conversation=ConversationId(conversation),
            sender=Sender(f"test:{sender}", sender.title(), trust),
            text=text,
            sent_at=self.clock.now() - 1,
            priority=priority,
            target={"thread": conversation},
            addressed=addressed,
            names=names,
            raw=raw,
        )

    async def hear(self, message: Message, expected: Outcome = Outcome.NEW) -> Registered:
        registered = await self.ledger.register(message)
        assert registered.outcome is expected
        return registered

    async def claim(self, conversation: str = "t1") -> Turn:
        """A turn that is there to be claimed."""
        id_ = ConversationId(conversation)
        known = await self.ledger.workspace(id_)
        spare = None if known else workspace(self.root, f"ws-{conversation}")
        turn = await self.ledger.claim(id_, spare, LIMITS)
        assert turn is not None
        return turn

    async def running(self, text: str = "hello", conversation: str = "t1") -> Turn:
        """A turn whose first attempt has begun."""
        await self.hear(self.message(text, conversation))
        turn = await self.claim(conversation)
        await self.ledger.begin_attempt(turn.id, 1, PROCESS)
        return turn

    async def done(
        self, text: str = "hello", conversation: str = "t1", answer: str = "hi"
    ) -> tuple[Turn, NewEffect]:
        """A turn that ended with an answer, still to be delivered."""
        turn = await self.running(text, conversation)
        effect = post(f"{turn.id}/answer", conversation, answer)
        assert await self.ledger.end_turn(turn.id, Ending(TurnState.DONE, answer, "", (effect,)))
        return turn, effect

    async def sent(self, text: str = "hello", conversation: str = "t1") -> Turn:
        """A turn whose answer has arrived."""
        turn, effect = await self.done(text, conversation)
        await self.ledger.mark_sending(effect.id)
        await self.ledger.mark_sent(effect.id, f"ref-{turn.id}")
        return turn

    async def due(self, connector: str = "chat") -> list[str]:
        """The texts of the effects that are due now."""
        due = await self.ledger.due_effects(connector, self.clock.now(), 100)
        return [str(effect.body["text"]) for effect in due]


def post(
    key: str,
    conversation: str = "t1",
    text: str = "hi",
    *,
    kind: EffectKind = EffectKind.POST,
    connector: str = "chat",
    names: tuple[str, ...] = (),
) -> NewEffect:
    return NewEffect(
        id=effect_id(key, 0),
        connector=connector,
        conversation=ConversationId(conversation),
        kind=kind,
        target={"thread": conversation},
        body={"text": text},
        names=names,
    )


@asynccontextmanager
async def new_stage(root: Path) -> AsyncIterator[Stage]:
    """A new ledger, for tests of what stands on the port and not of its implementations."""
    clock = ManualClock()
    stage = Stage(IMPLEMENTATIONS[0], root, await open_ledger(root, clock), clock)
    try:
        yield stage
    finally:
        await stage.ledger.close()
