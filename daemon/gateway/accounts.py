"""What each call came to: held before it, then counted, booked in the ledger and told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from daemon.clock import Clock
from daemon.errors import PostroomError
from daemon.gateway import prices
from daemon.gateway.caps import Caps
from daemon.gateway.metering import BYTES_PER_TOKEN
from daemon.gateway.prices import Metered
from daemon.gateway.record import CallObserved, Observe, Outcome, Record
from daemon.gateway.relay import Exchange
from daemon.gateway.seats import Sitting
from daemon.model import ModelCall, Turn, TurnId, Usage
from daemon.ports import Refusal

log = structlog.get_logger()

Book = Callable[[ModelCall], Awaitable[None]]
SpentBy = Callable[[TurnId], Awaitable[float]]
KeyChanged = Callable[[bool], None]

HELD_OUTPUT = 4096
"""Tokens of output that a call under way holds of its budgets; its prompt is held by its size."""

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,128})"')


@dataclass(frozen=True, slots=True)
class Held:
    """A call under way: what it asked for and what it holds, in US dollars."""

    model: str
    prompt_bytes: int
    estimate: float
    started_at: float
    began: float


class Accounts:
    """Holds, settles and books calls; `book` is the ledger's, and so is `spent_by`."""

    def __init__(
        self,
        clock: Clock,
        caps: Caps,
        record: Record,
        *,
        book: Book,
        observe: Observe,
        spent_by: SpentBy | None,
        key_changed: KeyChanged | None,
    ) -> None:
        self._clock, self._caps, self._record = clock, caps, record
        self._book_call, self._observe = book, observe
        self._spent_by, self._key_changed = spent_by, key_changed
        self._bookings: set[asyncio.Task[None]] = set()

    def open(self, turn: Turn) -> Sitting:
        """A purse for a turn. What earlier attempts of it cost is counted in."""
        sitting = Sitting(turn)
        earlier = turn.attempt > 1 or turn.failures > 0 or turn.deaths > 0
        if earlier and self._spent_by is not None:
            sitting.loading = asyncio.create_task(self._load(sitting, self._spent_by))
        return sitting

    async def judge(self, sitting: Sitting, body: bytes) -> Refusal | None:
        """Why no call may be made now; told to observers, and remembered for `close_turn`."""
        if sitting.loading is not None:
            await asyncio.shield(sitting.loading)
        refusal = self._caps.judge(sitting.purse)
        if refusal is not None:
            log.info("gateway.call_refused", scope=refusal.scope, turn=sitting.turn.id)
            model = _model(body)
            nothing = (Usage(), 0.0, 0.0)
            self._observe(CallObserved(Outcome.REFUSED, 0, model, *nothing, scope=refusal.scope))
        return refusal

    def hold(self, sitting: Sitting, body: bytes) -> Held:
        """Before a call: hold an estimate of it."""
        model = _model(body)
        guess = Metered(model, Usage(len(body) // BYTES_PER_TOKEN, HELD_OUTPUT))
        estimate = prices.cost(guess)
        self._caps.hold(sitting.purse, estimate)
        self._record.in_flight += 1
        return Held(model, len(body), estimate, self._clock.now(), self._clock.monotonic())

    def settle(self, sitting: Sitting, held: Held, exchange: Exchange) -> None:
        """After a call, however it ended. Never waits: the booking goes on by itself."""
        self._record.in_flight -= 1
        seen = _observed(held, exchange, self._clock.monotonic())
        self._caps.settle(sitting.purse, held.estimate, seen.cost, held.started_at)
        booking = asyncio.create_task(self._book(sitting.turn, seen, held.started_at), name="book")
        sitting.bookings.add(booking)
        self._bookings.add(booking)
        booking.add_done_callback(self._bookings.discard)
        if self._record.note(seen):
            self._tell_of_key(refused=self._record.key_refused)
        self._observe(seen)

    async def flush(self) -> None:
        """Return when all that was settled is booked, or could not be."""
        if self._bookings:
            await asyncio.wait(self._bookings)

    async def _book(self, turn: Turn, seen: CallObserved, started_at: float) -> None:
        call = ModelCall(
            conversation=turn.conversation,
            turn=turn.id,
            booked_on=turn.booked_on,
            model=seen.model,
            usage=seen.usage,
            cost=seen.cost,
            status=seen.status,
            started_at=started_at,
            seconds=seen.seconds,
        )
        log.debug(
            "gateway.call_ended",
            turn=turn.id,
            conversation=turn.conversation,
            model=seen.model,
            outcome=seen.outcome.value,
            status=seen.status,
            cost=round(seen.cost, 6),
            seconds=round(seen.seconds, 3),
        )
        try:
            await self._book_call(call)
        except PostroomError:
            log.exception("gateway.booking_failed", turn=turn.id)
            raise

    def _tell_of_key(self, *, refused: bool) -> None:
        if refused:
            log.error("gateway.key_refused")
        else:
            log.info("gateway.key_accepted")
        if self._key_changed is not None:
            self._key_changed(refused)

    async def _load(self, sitting: Sitting, spent_by: SpentBy) -> None:
        try:
            sitting.purse.spent += await spent_by(sitting.turn.id)
        except PostroomError:
            log.exception("gateway.spending_unknown", turn=sitting.turn.id)


def _observed(held: Held, exchange: Exchange, now: float) -> CallObserved:
    """What a call came to. An answer that began and told no usage costs its prompt, estimated."""
    reading = exchange.meter.reading if exchange.meter else None
    outcome, metered, estimated = exchange.outcome, Metered(held.model), False
    if reading is not None and exchange.status == 200:
        metered, estimated = reading.metered(), not reading.final
        if not reading.seen:
            prompt = held.prompt_bytes // BYTES_PER_TOKEN
            metered = Metered(held.model, Usage(prompt, metered.usage.output))
        if outcome is Outcome.CUT and reading.finished:
            outcome = Outcome.OK
    first = exchange.first_byte_at
    return CallObserved(
        outcome=outcome,
        status=exchange.status,
        model=metered.model or held.model,
        usage=metered.usage,
        cost=prices.cost(metered),
        seconds=now - held.began,
        first_byte_seconds=None if first is None else first - held.began,
        estimated=estimated,
    )


def _model(body: bytes) -> str:
    """The model asked for, where the CLI writes it; the one that is priced is told by the answer.
    Not parsed: a hostile body of many megabytes must not keep the loop busy.
    """
    found = _MODEL.search(body, 0, 65_536)
    return found[1].decode("utf-8", "replace") if found else ""
