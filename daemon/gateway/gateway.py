"""The model gateway: the only way from an agent to the model.

It listens on a loopback port of its own. An agent's process has a capability token where a key
would be; the gateway swaps in the real key, meters what each call used, refuses calls once a
budget is spent, and holds all of them while the API asks for a rest. Nothing of a request or an
answer is logged or kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from daemon.budgets import Limits, Raise, Statement
from daemon.clock import Clock
from daemon.egress import Outing
from daemon.errors import ConfigError
from daemon.gateway.accounts import Accounts, Books, ChannelOf, KeyChanged
from daemon.gateway.cooldown import Cooldown
from daemon.gateway.door import Door
from daemon.gateway.inspection import Inspection
from daemon.gateway.purses import Nearing, Purses
from daemon.gateway.record import Observe, Record
from daemon.gateway.relay import Patience, Relay
from daemon.gateway.seats import Call, Seats, Sitting
from daemon.gateway.upstreams import Dialect
from daemon.model import Health, Turn
from daemon.ports import Refusal

log = structlog.get_logger()

GRACE_SECONDS = 1.0  # for the end of a connection whose answer is whole


class ModelGateway:
    """Implements the port `Gateway`, and is a service: `start` binds, `run` serves until cancelled.

    `dialect` speaks to the API behind it, with the key. `model` is the one that agents are started
    with, `books` are the ledger's, and `channel_of` says where a turn's conversation lies.
    `observe` hears of every call that ended, `nearing` of budgets that are nearly or wholly spent,
    and `key_changed` when the API begins (True) or ceases (False) to refuse our key.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        model: str,
        clock: Clock,
        limits: Limits,
        books: Books,
        observe: Observe,
        nearing: Callable[[Nearing], None],
        channel_of: ChannelOf,
        key_changed: KeyChanged | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        patience: Patience | None = None,
    ) -> None:
        self._dialect, self._patience = dialect, patience or Patience()
        self._clock = clock
        self._host, self._port = host, port
        self._books = books
        self._seats = Seats()
        self._purses = Purses(clock, limits, books.spent, nearing)
        self._inspection = Inspection(model, dialect.without)
        self._record = Record(clock)
        self._cooldown = Cooldown(clock)
        self._accounts = Accounts(
            clock,
            self._purses,
            self._record,
            books,
            observe=observe,
            channel_of=channel_of,
            premium=dialect.premium,
            key_changed=key_changed,
        )
        self._starting = asyncio.Lock()
        self._door: Door | None = None
        self._relay: Relay | None = None
        self._runner: web.ServerRunner | None = None

    # --- life -----------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """What an agent's process is given as its base URL."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Bind and serve. Started again it takes the same port, as processes know it by that.
        Raises OSError, LedgerError.
        """
        async with self._starting:
            if self._runner is None:
                await self._start()

    async def _start(self) -> None:
        await self._purses.load(await self._books.raises())
        self._relay = Relay(self._dialect, self._patience, self._clock)
        self._door = Door(
            seats=self._seats,
            inspection=self._inspection,
            accounts=self._accounts,
            relay=self._relay,
            cooldown=self._cooldown,
            dialect=self._dialect,
        )
        self._runner = web.ServerRunner(self._door.server(), shutdown_timeout=0.1)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self.stop()
            raise
        self._port = self._runner.addresses[0][1]
        log.info("gateway.started", port=self._port)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Cut off what is under way, and return when it is booked. Tokens stay good."""
        runner, self._runner = self._runner, None
        relay, self._relay = self._relay, None
        door, self._door = self._door, None
        if door is not None:
            await _end(door.calls)
        if runner is not None:
            await runner.cleanup()
        await self._accounts.flush()
        await self._inspection.close()
        if relay is not None:
            await relay.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def health(self) -> Health:
        return self._record.health(
            spent_today=self._purses.spent_today,
            tokens=len(self._seats),
            blocked=self.blocked() is not None,
            rests=self.rests(),
        )

    # --- what can change while it runs ----------------------------------------------------------

    def limit(self, limits: Limits) -> None:
        """Other limits, from the next call on."""
        self._purses.limit(limits)

    def raise_by(self, more: Raise) -> None:
        """More for one budget, from the next call on. The ledger has it already."""
        self._purses.raise_by(more)

    async def budgets(self) -> tuple[Statement, ...]:
        """How each budget stands. Raises LedgerError."""
        return await self._purses.statements()

    def use_key(self, api_key: str) -> None:
        """Another key, from the next call on. Raises ConfigError for one that is none."""
        try:
            self._dialect.use_key(api_key)
        except ValueError as error:
            raise ConfigError(f"agent.api_key: {error}") from error

    # --- the port -------------------------------------------------------------------------------

    def issue(self) -> str:
        return self._seats.issue()

    def open_turn(self, token: str, turn: Turn) -> None:
        """From now on calls with this token belong to this turn. A revoked token stays dead."""
        seat = self._seats.find((token,))
        if seat is not None:
            seat.sitting = Sitting(turn, Outing(turn))

    async def close_turn(self, token: str) -> Refusal | None:
        """See the port. Calls under way are cut off. Raises LedgerError where one could not be
        booked.
        """
        seat = self._seats.find((token,))
        if seat is None or seat.sitting is None:
            return None
        sitting, seat.sitting = seat.sitting, None
        await sitting.outing.end()
        await _end(sitting.calls)
        if sitting.bookings:
            await asyncio.wait(sitting.bookings)
        for booking in sitting.bookings:
            booking.result()
        return sitting.refusal

    def halt(self, token: str) -> None:
        """See the port."""
        seat = self._seats.find((token,))
        if seat is not None and seat.sitting is not None:
            seat.sitting.halted = True
            seat.sitting.cut()

    def revoke(self, token: str) -> None:
        """The token is good for nothing any more; its calls under way are cut off."""
        seat = self._seats.remove(token)
        if seat is not None and seat.sitting is not None:
            seat.sitting.cut()

    def join(self, token: str, task: asyncio.Task[None]) -> Outing | None:
        """For the egress proxy: see its `Turns`."""
        seat = self._seats.find((token,))
        sitting = seat.sitting if seat is not None else None
        if sitting is None or sitting.halted:
            return None
        sitting.outing.take(task)
        return sitting.outing

    async def refusal(self, turn: Turn) -> Refusal | None:
        return await self._accounts.refusal(turn)

    def blocked(self) -> Refusal | None:
        """While the budget of all is spent."""
        return self._purses.blocked()

    def rests(self) -> float:
        return self._cooldown.seconds


async def _end(calls: set[Call]) -> None:
    """Cut calls off, and return when they are settled. Those whose answer is whole may end."""
    pending = {asyncio.ensure_future(call.done.wait()) for call in calls}
    for call in calls:
        if not call.finished:
            call.abort()
    if not pending:
        return
    _, late = await asyncio.wait(pending, timeout=GRACE_SECONDS)
    for call in calls:
        call.abort()
    if late:
        await asyncio.wait(late)
