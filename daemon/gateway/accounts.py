"""What each call came to: held before it, then counted, booked in the ledger and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from daemon.budgets import Budget, Raise, drawn_on
from daemon.clock import Clock
from daemon.errors import PostroomError
from daemon.gateway import prices
from daemon.gateway.body import Asked
from daemon.gateway.metering import BYTES_PER_TOKEN
from daemon.gateway.prices import Metered
from daemon.gateway.purses import Purse, Purses
from daemon.gateway.record import CallObserved, Observe, Outcome, Record
from daemon.gateway.relay import Exchange
from daemon.gateway.seats import Sitting
from daemon.model import ModelCall, Turn, Usage
from daemon.ports import Refusal

log = structlog.get_logger()

KeyChanged = Callable[[bool], None]
ChannelOf = Callable[[Turn], str]


class Books(Protocol):
    """What the gateway needs of the ledger: see its port."""

    async def book(self, call: ModelCall) -> None: ...
    async def spent(self, budgets: Sequence[Budget], since: float) -> tuple[float, ...]: ...
    async def raises(self) -> tuple[Raise, ...]: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A call under way: what it asked for, the tokens it may write at most, and the US dollars that
    it holds of each purse.
    """

    asked: Asked
    max_tokens: int
    dollars: float
    purses: tuple[Purse, ...]
    started_at: float
    began: float


class Accounts:
    """Holds, settles and books calls. `channel_of` says where a turn's conversation lies, `premium`
    what a model costs by its upstream, as a multiple of the list prices.
    """

    def __init__(
        self,
        clock: Clock,
        purses: Purses,
        record: Record,
        books: Books,
        *,
        observe: Observe,
        channel_of: ChannelOf,
        premium: Callable[[str], float],
        key_changed: KeyChanged | None,
    ) -> None:
        self._clock, self._purses, self._record = clock, purses, record
        self._books, self._observe = books, observe
        self._channel_of, self._premium, self._key_changed = channel_of, premium, key_changed
        self._bookings: set[asyncio.Task[None]] = set()

    async def refusal(self, turn: Turn) -> Refusal | None:
        """Why a turn need not begin. Raises LedgerError."""
        return self._purses.refusal(await self._paid_from(turn))

    async def hold(self, sitting: Sitting, asked: Asked) -> Held | Refusal | None:
        """Hold the most that a call can cost: its prompt, and as much output as it asks for and its
        budgets have left. None: others held that for too long. Raises LedgerError.

        A refusal is told to observers, and remembered for `close_turn`.
        """
        turn, model = sitting.turn, asked.model
        purses = await self._paid_from(turn)
        bound = prices.bound(model, asked.prompt_tokens, self._premium(model))
        dollars = await self._purses.reserve(
            turn, purses, bound.dollars(asked.least_output), bound.dollars(asked.max_tokens)
        )
        if isinstance(dollars, Refusal):
            sitting.refusal = sitting.refusal or dollars
            log.info("gateway.call_refused", scope=dollars.scope.value, turn=turn.id)
            nothing = (Usage(), 0.0, 0.0)
            refused = CallObserved(Outcome.REFUSED, 0, model, *nothing, scope=dollars.scope)
            self._observe(refused)
            return dollars
        if dollars is None:
            return None
        self._record.in_flight += 1
        return Held(
            asked=asked,
            max_tokens=max(asked.least_output, min(asked.max_tokens, bound.tokens(dollars))),
            dollars=dollars,
            purses=purses,
            started_at=self._clock.now(),
            began=self._clock.monotonic(),
        )

    def settle(self, sitting: Sitting, held: Held, exchange: Exchange) -> None:
        """After a call, however it ended. Never waits: the booking goes on by itself."""
        self._record.in_flight -= 1
        premium = self._premium(held.asked.model)
        seen = _observed(held, exchange, self._clock.monotonic(), premium)
        self._purses.settle(sitting.turn, held.purses, held.dollars, seen.cost, held.started_at)
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

    async def _paid_from(self, turn: Turn) -> tuple[Purse, ...]:
        return await self._purses.open(drawn_on(turn, self._channel_of(turn)))

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
            connector=turn.connector,
            channel=self._channel_of(turn),
        )
        log.info(
            "gateway.call_ended",
            turn=turn.id,
            conversation=turn.conversation,
            sender=turn.booked_on,
            model=seen.model,
            outcome=seen.outcome.value,
            status=seen.status,
            cost=round(seen.cost, 6),
            seconds=round(seen.seconds, 3),
        )
        try:
            await self._books.book(call)
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


def _observed(held: Held, exchange: Exchange, now: float, premium: float) -> CallObserved:
    """What a call came to. An answer that told no usage costs its prompt, estimated; so does one
    that its client did not wait for: what is asked for and hung up on must not be free.
    """
    reading = exchange.meter.reading if exchange.meter else None
    model, prompt = held.asked.model, held.asked.size // BYTES_PER_TOKEN
    outcome, metered, estimated = exchange.outcome, Metered(model), False
    if reading is not None and exchange.status == 200:
        metered, estimated = reading.metered(), not reading.final
        if not reading.seen:
            metered = Metered(model, Usage(prompt, metered.usage.output))
        if outcome is Outcome.CUT and reading.finished:
            outcome = Outcome.OK
    elif outcome is Outcome.CUT and exchange.asked and not exchange.status:
        metered, estimated = Metered(model, Usage(prompt)), True
    first = exchange.first_byte_at
    return CallObserved(
        outcome=outcome,
        status=exchange.status,
        model=metered.model or model,
        usage=metered.usage,
        cost=premium * prices.cost(metered),
        seconds=now - held.began,
        first_byte_seconds=None if first is None else first - held.began,
        estimated=estimated,
    )
