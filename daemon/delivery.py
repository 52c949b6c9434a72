"""Delivery: carries a connector's effects out, in order per conversation, at most once visible.

`pending -> sending -> sent | unclear | dead`. What was left in `sending` is looked up outside
before anything is repeated; what stays unclear is told to a person and never repeated blindly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from daemon.clock import Clock
from daemon.errors import LedgerError, OwnershipLost, Unavailable
from daemon.metrics import Metrics
from daemon.model import (
    Effect,
    EffectKind,
    NotNow,
    Priority,
    Receipt,
    Rejected,
    Sent,
    Sighting,
    Unclear,
)
from daemon.ports import Connector, Describes, Ledger, Tell
from daemon.retries import patiently

log = structlog.get_logger()

AT_ONCE = 8  # conversations that one connector delivers to in parallel
PATIENCE_SECONDS = {Priority.CHAT: 3600.0, Priority.MAIL: 2 * 86400.0}
LOOK_AGAIN_SECONDS = 120.0  # a Sent folder may show a mail late (reference: mail, section 9)
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 2.0, 300.0
SWEEP_SECONDS = 30.0  # a safety net for a wake-up that never came


class Delivery:
    """The outbox of one connector, as a service. `tell` informs operators."""

    def __init__(
        self,
        *,
        connector: Connector,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        tell: Tell,
    ) -> None:
        self._connector = connector
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._tell = tell
        self._event = asyncio.Event()
        self._busy: set[str] = set()

    def wake(self) -> None:
        """There may be something to carry out."""
        self._event.set()

    async def run(self) -> None:
        """Until cancelled; what is under way stays `sending`, and the next start looks it up."""
        async with asyncio.TaskGroup() as group:
            for effect in await self._ledger.left_sending(self._connector.name):
                self._begin(group, effect, self._settle(effect, Unclear("found in `sending`")))
            while True:
                self._event.clear()
                now = self._clock.now()
                for effect in await self._due(now):
                    self._begin(group, effect, self._carry_out(effect))
                await self._rest(now)

    async def idle(self) -> bool:
        """Whether nothing is due and nothing under way: the outbox is flushed."""
        return not self._busy and not await self._due(self._clock.now())

    async def _due(self, now: float) -> list[Effect]:
        room = AT_ONCE - len(self._busy)
        if room <= 0:
            return []
        due = await self._ledger.due_effects(self._connector.name, now, AT_ONCE + len(self._busy))
        return [effect for effect in due if effect.conversation not in self._busy][:room]

    async def _rest(self, now: float) -> None:
        due = await self._ledger.next_due(self._connector.name)
        # What is due may belong to a conversation that is under way: its end wakes us.
        least = 1.0 if self._busy else 0.02
        pause = SWEEP_SECONDS if due is None else min(max(due - now, least), SWEEP_SECONDS)
        try:
            async with asyncio.timeout(pause):
                await self._event.wait()
        except TimeoutError:
            return

    def _begin(self, group: asyncio.TaskGroup, effect: Effect, work: Awaitable[None]) -> None:
        self._busy.add(effect.conversation)

        async def one() -> None:
            try:
                await work
            finally:
                self._busy.discard(effect.conversation)
                self._event.set()

        group.create_task(one(), name=f"deliver {effect.id}")

    async def _carry_out(self, effect: Effect) -> None:
        receipt = await self._attempt(effect)
        patience = PATIENCE_SECONDS[self._connector.priority]
        # Only now: what is old because we were away for long has its try, too.
        if isinstance(receipt, NotNow) and self._clock.now() - effect.created_at > patience:
            receipt = Rejected(f"refused for {patience / 3600:g} hours: {receipt.reason}")
        if receipt is not None:
            await self._settle(effect, receipt)

    async def _attempt(self, effect: Effect) -> Receipt | None:
        """None: the ledger did not take `sending`, so nothing left and it is pending still."""
        left = False

        async def sending() -> None:
            nonlocal left
            await self._ledger.mark_sending(effect.id)
            left = True

        try:
            return await self._connector.deliver(effect, sending)
        except Unavailable as error:
            return Unclear(str(error)) if left else NotNow(str(error), error.retry_after)
        except OwnershipLost:
            raise
        except LedgerError:
            log.exception("delivery.not_begun", effect=effect.id)
            await self._clock.sleep(FIRST_RETRY_SECONDS)
            return None
        except Exception:  # the delivery boundary: a defect of ours stops no other effect
            log.exception("delivery.broke", effect=effect.id)
            return Unclear("internal error") if left else NotNow("internal error", 0.0)

    async def _settle(self, effect: Effect, receipt: Receipt) -> None:
        """Write what came of it, however long the ledger is in trouble: else its conversation would
        stand still behind a `sending` that nobody looks after.
        """

        def heard(error: BaseException, tries: int) -> None:
            log.error("delivery.unwritten", effect=effect.id, reason=str(error), tries=tries)

        trying = patiently(
            self._clock, longest=LAST_RETRY_SECONDS, heard=heard, over=(LedgerError,)
        )
        await trying(self._write, effect, receipt)

    async def _write(self, effect: Effect, receipt: Receipt) -> None:
        match receipt:
            case Sent(ref):
                await self._ledger.mark_sent(effect.id, ref)
                self._count(effect, "sent", ref=ref)
            case NotNow(reason, retry_after):
                backoff = min(
                    FIRST_RETRY_SECONDS * 2 ** min(effect.attempts, 10), LAST_RETRY_SECONDS
                )
                at = self._clock.now() + (retry_after or backoff)
                await self._ledger.mark_pending(effect.id, at, reason)
                self._count(effect, "deferred", reason=reason)
            case Rejected(reason):
                await self._give_up(effect, reason)
            case Unclear(reason):
                log.warning("delivery.unclear_ending", effect=effect.id, reason=reason)
                await self._look_up(effect)

    async def _look_up(self, effect: Effect) -> None:
        """Settle an effect that may have arrived. Absence is believed only where it proves it."""
        for last in (False, True):
            found = await self._find(effect)
            if isinstance(found, Sent):
                await self._ledger.mark_sent(effect.id, found.ref)
                self._count(effect, "found", ref=found.ref)
                return
            if found is Sighting.ABSENT:
                await self._ledger.mark_pending(
                    effect.id, self._clock.now(), "not there: send again"
                )
                self._count(effect, "absent")
                return
            if not last:
                await self._clock.sleep(self._until_second_look(effect))
        # Told first, which its key does once: a death in between must not leave it untold.
        if effect.kind is not EffectKind.NOTICE:
            await self._tell_of(effect, "may or may not have arrived; it is not sent again")
        await self._ledger.mark_unclear(effect.id, "nobody can tell whether it arrived")
        self._metrics.delivery_unclear.labels(self._connector.name).inc()
        self._count(effect, "unclear")

    def _until_second_look(self, effect: Effect) -> float:
        """Seconds. What passed before a restart counts, where only one attempt was ever begun;
        else a daemon that is restarted often would never settle it.
        """
        if effect.attempts != 1 or effect.started_at is None:
            return LOOK_AGAIN_SECONDS
        passed = max(self._clock.now() - effect.started_at, 0.0)
        return max(LOOK_AGAIN_SECONDS - passed, 0.0)

    async def _find(self, effect: Effect) -> Sent | Sighting:
        """Ask until the outside answers: a look-up that fails says nothing."""

        def heard(error: BaseException, tries: int) -> None:
            log.info("delivery.look_up_failed", effect=effect.id, reason=str(error), tries=tries)

        trying = patiently(
            self._clock, first=FIRST_RETRY_SECONDS, longest=LAST_RETRY_SECONDS, heard=heard
        )
        try:
            found: Sent | Sighting = await trying(self._connector.find, effect)
        except Exception:  # the delivery boundary, as above: then a person looks
            log.exception("delivery.look_up_broke", effect=effect.id)
            return Sighting.UNKNOWN
        return found

    async def _give_up(self, effect: Effect, reason: str) -> None:
        if effect.kind is not EffectKind.NOTICE:  # a notice about a notice would go round for ever
            await self._tell_of(effect, f"could not be delivered: {reason}")
        await self._ledger.mark_dead(effect.id, reason)
        self._count(effect, "dead", reason=reason)

    async def _tell_of(self, effect: Effect, what: str) -> None:
        """So that a person knows what to look at: where it belongs, and how it looks outside."""
        text = f"{effect.id} {what}. Of {effect.conversation}: postroom trace {effect.id}"
        described = ""
        if isinstance(self._connector, Describes):
            described = self._connector.describe(effect)
        await self._tell(effect.id, text, f"It is {described}." if described else "")

    def _count(self, effect: Effect, outcome: str, **fields: str) -> None:
        self._metrics.deliveries.labels(self._connector.name, outcome).inc()
        log.info(
            f"delivery.{outcome}",  # noqa: G004 - the outcome is the verb of the event's name
            effect=effect.id,
            conversation=effect.conversation,
            turn=effect.turn,
            connector=self._connector.name,
            seconds=round(self._clock.now() - effect.created_at, 3),
            **fields,
        )
