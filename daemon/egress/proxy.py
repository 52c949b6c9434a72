"""The proxy itself: who asks, whether it may, the way outside and back, and the record of it all.

It listens on a loopback port of its own, which only processes of profiles with a list may connect
to. Nothing of what passes is looked at or kept: only where to, how much, and how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from daemon.clock import Clock
from daemon.destinations import Destination, destination, granting
from daemon.egress import requests, verdicts
from daemon.egress.carrying import MOST_RECEIVED, MOST_SENT, Carriage, carry
from daemon.egress.dialling import Dialler, Line
from daemon.egress.outing import Outing, cut
from daemon.egress.verdicts import Refused, Verdict
from daemon.errors import LedgerError
from daemon.metrics import Metrics
from daemon.model import AGENT, Audited, Health, HealthState, JsonObject, Trust

log = structlog.get_logger()

HEAD_SECONDS = 10.0  # from the beginning of a connection to the end of its request's head
LEAVE_SECONDS = 10.0  # that a client has to read what is left for it
MOST_AT_ONCE = 32  # connections of one turn
MOST_OF_A_TURN = 500  # each is recorded
MAX_CONNECTIONS = 512  # a client that opens more must not use up the daemon's descriptors


class Turns(Protocol):
    """Knows which token is whose: the gateway."""

    def join(self, token: str, task: asyncio.Task[None]) -> Outing | None:
        """The outing of the token's open turn. The task is a part of it from now on: it is
        cancelled when the turn ends, is stopped or its token is revoked. None: no turn is open.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Trip:
    """One connection of a turn: `number` counts them, `wanted` may go by `entry` of the list."""

    outing: Outing
    number: int
    wanted: Destination
    entry: str


class EgressProxy:
    """A service: `start` binds, `run` serves until cancelled.

    `lists` gives the entries of a label's profile; `record` adds to the audit, and raises
    LedgerError where it cannot.
    """

    def __init__(
        self,
        *,
        turns: Turns,
        lists: Callable[[Trust], Sequence[str]],
        dialler: Dialler,
        record: Callable[[Audited], Awaitable[None]],
        clock: Clock,
        metrics: Metrics,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._turns, self._lists, self._dialler = turns, lists, dialler
        self._record, self._clock, self._metrics = record, clock, metrics
        self._host, self.port = host, port
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._connections: set[asyncio.Task[None]] = set()
        self._counts = dict.fromkeys(Verdict, 0)
        for verdict in Verdict:
            metrics.egress_connections.labels(verdict)

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and serve. Started again it takes the same port, as processes know it by that.
        Raises OSError.
        """
        async with self._starting:
            if self._server is None:
                self._server = await asyncio.start_server(
                    self._meet, self._host, self.port, limit=2 * requests.MAX_HEAD
                )
                self.port = self._server.sockets[0].getsockname()[1]
                log.info("egress.started", port=self.port)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Cut off what is under way, and return when that is recorded."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        cut(self._connections)
        if self._connections:
            await asyncio.wait(set(self._connections))

    def health(self) -> Health:
        numbers = {verdict.value: count for verdict, count in self._counts.items() if count}
        return Health(HealthState.PASS, numbers={"open": len(self._connections), **numbers})

    # --- one connection -------------------------------------------------------------------------

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From its first byte to its last."""
        client, task = Line(reader, writer), asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            client.abort()
            return
        self._connections.add(task)
        try:
            await self._serve(client, task)
            await _leave(client)
        except asyncio.CancelledError:
            client.abort()  # and there it ends: nobody waits for more of this task
        except (OSError, EOFError):  # the client has gone, or does not read
            client.abort()
        except Exception:  # the boundary of a connection: a defect of ours ends no other one
            log.exception("egress.connection_broke")
            client.abort()
        finally:
            self._connections.discard(task)

    async def _serve(self, client: Line, task: asyncio.Task[None]) -> None:
        try:
            asked = await _asked(client)
            outing = self._outing(asked.token, task)
        except Refused as refused:  # whose it is nobody knows
            self._count(refused.verdict)
            client.writer.write(verdicts.answer(refused.verdict))
            return
        outing.begun += 1
        number, wanted = outing.begun, _destination(asked.target)
        try:
            trip = self._trip(outing, number, wanted)
            async with self._dialler.dial(trip.wanted) as outside:
                await self._carry(client, outside, trip)
        except Refused as refused:
            await self._refuse(outing, number, wanted, refused.verdict)
            client.writer.write(verdicts.answer(refused.verdict))

    def _outing(self, token: str, task: asyncio.Task[None]) -> Outing:
        """Raises Refused where no turn is open."""
        outing = self._turns.join(token, task)
        if outing is None:
            raise Refused(Verdict.UNKNOWN)
        return outing

    def _trip(self, outing: Outing, number: int, wanted: Destination | None) -> _Trip:
        """Raises Refused where the turn may not go there."""
        if number > MOST_OF_A_TURN or len(outing.tasks) > MOST_AT_ONCE:
            raise Refused(Verdict.SPENT)
        if outing.sent > MOST_SENT or outing.received > MOST_RECEIVED:
            raise Refused(Verdict.SPENT)
        if wanted is None:
            raise Refused(Verdict.MALFORMED)
        entry = granting(self._lists(outing.turn.trust), wanted)
        if entry is None:
            raise Refused(Verdict.NOT_LISTED)
        return _Trip(outing, number, wanted, entry)

    async def _carry(self, client: Line, outside: Line, trip: _Trip) -> None:
        """Raises Refused where it cannot be recorded: then no byte has gone out."""
        turn, carriage, began = trip.outing.turn, Carriage(), self._clock.monotonic()
        facts = {"connection": trip.number, "entry": trip.entry}
        try:
            await self._tell("egress.opened", trip.outing, facts, trip.wanted)
        except LedgerError:
            raise Refused(Verdict.UNRECORDED) from None
        self._count(Verdict.OPENED)
        try:
            client.writer.write(verdicts.OPENED)
            await carry(client, outside, trip.outing, carriage)
        finally:
            self._metrics.egress_bytes.labels("sent").inc(carriage.sent)
            self._metrics.egress_bytes.labels("received").inc(carriage.received)
            ending = {
                "sent": carriage.sent,
                "received": carriage.received,
                "seconds": round(self._clock.monotonic() - began, 3),
                "ended": carriage.ended.value,
            }
            try:
                await self._tell("egress.closed", trip.outing, {**facts, **ending}, trip.wanted)
            except LedgerError:
                log.exception("egress.not_recorded", turn=turn.id, connection=trip.number)

    async def _refuse(
        self, outing: Outing, number: int, wanted: Destination | None, verdict: Verdict
    ) -> None:
        """Beyond what a turn may have they are only counted."""
        self._count(verdict)
        if number > MOST_OF_A_TURN + 1:
            return
        facts = {"connection": number, "verdict": verdict.value}
        with contextlib.suppress(LedgerError):  # nothing was done
            await self._tell("egress.refused", outing, facts, wanted)

    # --- records --------------------------------------------------------------------------------

    async def _tell(
        self, what: str, outing: Outing, facts: JsonObject, wanted: Destination | None
    ) -> None:
        """To the log and the audit. Raises LedgerError. Which host it is an agent may have made
        up: the audit has the list's entry, and the host itself as a digest.
        """
        turn = outing.turn
        host, port = (wanted.host, wanted.port) if wanted else (None, None)
        log.info(what, turn=turn.id, conversation=turn.conversation, host=host, port=port, **facts)
        await self._record(
            Audited(
                what,
                AGENT,
                turn.conversation,
                {"turn": turn.id, "port": port, **facts},
                (str(wanted),) if wanted else (),
            )
        )

    def _count(self, verdict: Verdict) -> None:
        self._counts[verdict] += 1
        self._metrics.egress_connections.labels(verdict).inc()


async def _leave(client: Line) -> None:
    """Close the connection once all is written. Until then it counts, and ends with its turn: a
    client that reads nothing must not hold a descriptor. Raises OSError.
    """
    client.writer.close()
    async with asyncio.timeout(LEAVE_SECONDS):
        await client.writer.wait_closed()


async def _asked(client: Line) -> requests.Asked:
    """Raises Refused; OSError or EOFError where the client has gone, or says nothing for long."""
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await client.reader.readuntil(requests.END)
    except asyncio.LimitOverrunError:
        raise Refused(Verdict.MALFORMED) from None
    return requests.parse(head)


def _destination(target: str) -> Destination | None:
    try:
        return destination(target)
    except ValueError:
        return None
