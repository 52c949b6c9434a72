"""The whole flow on a real ledger: scripted agents, a recording connector, a fake gateway."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

from daemon.agents.scripted import ScriptedAgents
from daemon.approvals import WAIT_SECONDS, Approvals
from daemon.budgeting import Budgeting
from daemon.budgets import Limits, Raise
from daemon.clock import Clock, SystemClock
from daemon.delivery import Delivery
from daemon.flow import FlowSettings, build_flow
from daemon.intake import LedgerIntake
from daemon.ledger import open_ledger
from daemon.mcp_servers import McpServers
from daemon.metrics import Metrics
from daemon.model import (
    Answer,
    Approval,
    ConversationId,
    Effect,
    EffectKind,
    Health,
    HealthState,
    JsonObject,
    Message,
    NewEffect,
    Priority,
    Profile,
    Receipt,
    Registered,
    Sender,
    Sent,
    Sighting,
    Trust,
    Turn,
    effect_id,
)
from daemon.pool import PoolSettings
from daemon.ports import Intake, Ledger, Refusal, ToolSpec
from daemon.recovery import recover

LABEL = ToolSpec("label", "Label it.", {"type": "object"}, "Recorded.")


class RecordingConnector:
    """A connector whose outside is a list; `answers` scripts the receipts of deliveries."""

    kind = "recording"
    tools: tuple[ToolSpec, ...] = (LABEL,)

    def __init__(self, name: str = "chat", priority: Priority = Priority.CHAT) -> None:
        self.name = name
        self.priority = priority
        self.outside: list[tuple[str, str]] = []  # what people see: (conversation, text)
        self.activity: list[str] = []
        self.receipts: list[Receipt | Callable[[Effect], Receipt]] = []
        self.seen: dict[str, str] = {}
        self.findable = True
        self.changed = asyncio.Event()

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        ready()
        await asyncio.Event().wait()

    async def compose(self, answer: Answer) -> tuple[NewEffect, ...]:
        target = answer.messages[0].target
        return (
            NewEffect(
                effect_id(answer.key, 0),
                self.name,
                answer.conversation,
                EffectKind.POST,
                target,
                {"text": answer.text, "final": answer.final},
            ),
        )

    def compose_tool(
        self, tool: str, arguments: JsonObject, key: str, turn: Turn
    ) -> NewEffect | str:
        if "refuse" in arguments:
            return "No."
        target = turn.messages[0].message.target
        body = {"text": f"label {arguments['name']}", "final": False}
        return NewEffect(
            effect_id(key, 0), self.name, turn.conversation, EffectKind.LABEL, target, body
        )

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        await sending()
        receipt = self.receipts.pop(0) if self.receipts else Sent(f"ref-{effect.id}")
        if callable(receipt):
            receipt = receipt(effect)
        if isinstance(receipt, Sent):
            self.arrive(effect)
        self.changed.set()
        return receipt

    def arrive(self, effect: Effect) -> None:
        self.outside.append((effect.conversation, str(effect.body["text"])))
        self.seen[effect.id] = f"ref-{effect.id}"

    async def find(self, effect: Effect) -> Sent | Sighting:
        if not self.findable:
            return Sighting.UNKNOWN
        return Sent(self.seen[effect.id]) if effect.id in self.seen else Sighting.ABSENT

    async def show_activity(self, target: JsonObject, text: str) -> None:
        self.activity.append(text)

    def health(self) -> Health:
        return Health(HealthState.PASS)


class ButtonConnector(RecordingConnector):
    """One in whose conversations people approve by a button; whispers are kept in `whispered`."""

    def __init__(self, name: str = "chat", priority: Priority = Priority.CHAT) -> None:
        super().__init__(name, priority)
        self.requests: list[Approval] = []
        self.whispered: list[str] = []

    def compose_request(self, approval: Approval, text: str, shown: str) -> NewEffect:
        self.requests.append(approval)
        return self._effect(approval, "asked", f"{text}\n{shown}", EffectKind.REQUEST)

    def compose_outcome(self, approval: Approval, text: str, shown: str) -> NewEffect:
        return self._effect(approval, "decided", text, EffectKind.OUTCOME)

    async def whisper(self, target: JsonObject, text: str) -> None:
        self.whispered.append(text)

    def _effect(self, approval: Approval, key: str, text: str, kind: EffectKind) -> NewEffect:
        target = {"thread": approval.conversation}
        id_ = effect_id(f"{approval.id}/{key}", 0)
        return NewEffect(id_, self.name, approval.conversation, kind, target, {"text": text})


class OpenGateway:
    """A gateway that lets everything through until told otherwise."""

    port = 0

    def __init__(self) -> None:
        self.refusals: list[Refusal | None] = []
        self.shut: Refusal | None = None
        self.rest = 0.0
        self.raised: list[Raise] = []
        self._tokens = itertools.count()
        self.live: set[str] = set()
        self.halted: list[str] = []

    def issue(self) -> str:
        token = f"token-{next(self._tokens)}"
        self.live.add(token)
        return token

    def open_turn(self, token: str, turn: Turn) -> None:
        assert token in self.live

    async def close_turn(self, token: str) -> Refusal | None:
        return self.refusals.pop(0) if self.refusals else None

    def halt(self, token: str) -> None:
        self.halted.append(token)

    def revoke(self, token: str) -> None:
        self.live.discard(token)

    async def refusal(self, turn: Turn) -> Refusal | None:
        return self.shut

    def rests(self) -> float:
        return self.rest

    def raise_by(self, more: Raise) -> None:
        self.raised.append(more)
        self.shut = None


class Flow:
    """An async context manager; closing it is the daemon's SIGTERM without a drain."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock | None = None,
        max_processes: int = 2,
        spares: int = 0,
        debounce: float = 0.0,
        connectors: tuple[RecordingConnector, ...] = (),
        idle_seconds: float = 600,
        disk_limit: int = 2**30,
        turn_timeout: float = 30,
        tools: tuple[str, ...] = ("Read",),
        ask: tuple[str, ...] = (),
        ledger: Callable[[Ledger], Ledger] = lambda ledger: ledger,
    ) -> None:
        self.root = root
        self.clock = clock or SystemClock()
        self.agents = ScriptedAgents(root / "conversations")
        self.gateway = OpenGateway()
        self.metrics = Metrics()
        given = connectors or (RecordingConnector(),)
        self.connectors = {connector.name: connector for connector in given}
        self.chat = given[0]
        self.told: list[str] = []
        self.limits = Limits()
        self._profiles = {trust: Profile(trust, tools, ask) for trust in Trust}
        self._profiles[Trust.PUBLIC] = Profile(Trust.PUBLIC, ())
        pool = PoolSettings(max_processes, spares, 2, idle_seconds, 2**30, disk_limit)
        self._settings = FlowSettings(pool, turn_timeout, max_turns=40, debounce=debounce)
        self._wrapped = ledger
        self._numbers = itertools.count(1)
        self.services: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.ledger: Ledger = self._wrapped(await open_ledger(self.root, self.clock))
        await self.agents.end_leftovers()
        self.approvals = Approvals(
            ledger=self.ledger,
            clock=self.clock,
            connectors=self.connectors,
            wake=self._wake,
            wake_delivery=self._wake_delivery,
            tell=self._tell,
            say=self._say,
            raised=self._raised,
            wait=WAIT_SECONDS,
        )
        self.budgeting = Budgeting(
            ledger=self.ledger,
            clock=self.clock,
            limits=lambda: self.limits,
            add=self.gateway.raise_by,
            tell=self._tell,
            say=self._say,
            ask=self.approvals.offer,
            wake=self._wake,
        )
        flow = build_flow(
            self._settings,
            ledger=self.ledger,
            agents=self.agents,
            gateway=self.gateway,
            connectors=self.connectors,
            approvals=self.approvals,
            servers=McpServers(()),
            offer=self.budgeting.offer,
            profiles=self._profiles.__getitem__,
            wake_delivery=self._wake_delivery,
            tell=self._tell,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.endings, self.pool, self.dispatcher = flow.endings, flow.pool, flow.dispatcher
        self.deliveries = {
            name: Delivery(
                connector=connector,
                ledger=self.ledger,
                clock=self.clock,
                metrics=self.metrics,
                tell=self._tell,
            )
            for name, connector in self.connectors.items()
        }
        self.intake = LedgerIntake(
            ledger=self.ledger,
            clock=self.clock,
            metrics=self.metrics,
            connectors=self.connectors,
            approvals=self.approvals,
            wake=self.dispatcher.wake,
            place=self.dispatcher.place,
            stop=self.pool.stop_turn,
            wake_delivery=self._wake_delivery,
            spawn=self._spawn,
            full=str,
        )
        await recover(self.ledger, self.endings)
        self._spawn(self.pool.run())
        self._spawn(self.dispatcher.run())
        for delivery in self.deliveries.values():
            self._spawn(delivery.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.services:
            task.cancel()
        ended = await asyncio.gather(*self.services, return_exceptions=True)
        await self.ledger.close()
        wrong = [e for e in ended if e and not isinstance(e, asyncio.CancelledError)]
        assert not wrong, wrong
        assert not self.agents.violations, self.agents.violations

    async def say(self, text: str, thread: str = "t1", **how: Any) -> Registered:
        """`how`: what `message` takes."""
        return await self.intake.accept(self.message(text, thread, **how))

    def message(
        self,
        text: str,
        thread: str = "t1",
        *,
        trust: Trust | None = Trust.MEMBER,
        sender: str = "ada",
        connector: RecordingConnector | None = None,
        addressed: bool = True,
        outside_id: str = "",
        sent_at: float | None = None,
    ) -> Message:
        into = connector or self.chat
        number = next(self._numbers)
        return Message(
            connector=into.name,
            outside_id=outside_id or f"m{number}-{time.monotonic_ns()}",
            conversation=ConversationId(thread),
            sender=Sender(f"test:{sender}", sender.title(), trust),
            text=text,
            sent_at=self.clock.now() if sent_at is None else sent_at,
            priority=into.priority,
            target={"thread": thread},
            addressed=addressed,
        )

    async def until(self, wanted: Callable[[], bool], within: float = 10) -> None:
        """Let the flow run until `wanted()`; looks again whenever the loop has turned."""
        async with asyncio.timeout(within):
            while not wanted():
                await asyncio.sleep(0.002)

    async def answers(self, count: int, within: float = 10) -> list[tuple[str, str]]:
        await self.until(lambda: len(self.chat.outside) >= count, within)
        return self.chat.outside

    # What is handed over before it is there.

    def _wake(self, conversation: ConversationId) -> None:
        self.dispatcher.wake(conversation)

    async def _raised(self, more: Raise) -> None:
        await self.budgeting.raised(more)

    async def _say(self, turn: Turn, text: str, key: str, *, once: str = "") -> None:
        await self.endings.say(turn, text, key, once=once)

    def _wake_delivery(self, name: str) -> None:
        self.deliveries[name].wake()

    async def _tell(self, key: str, text: str, aside: str = "") -> None:
        self.told.append("\n".join(filter(None, (text, aside))))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.services.append(asyncio.create_task(work))
