"""One request at the gateway's door: who asks, what for, whether it may, and then the way to the
API and back.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import partial

import structlog
from aiohttp import web

from daemon.gateway import rules
from daemon.gateway.accounts import Accounts
from daemon.gateway.body import Improper, Judged
from daemon.gateway.cooldown import Cooldown, Pass
from daemon.gateway.inspection import Inspection, Unread
from daemon.gateway.relay import Exchange, Relay
from daemon.gateway.rules import Endpoint, Rejection
from daemon.gateway.seats import Call, Seats, Sitting
from daemon.gateway.upstreams import Dialect, Wish
from daemon.ports import Refusal

log = structlog.get_logger()

MAX_CALLS = 8  # under way at once, of one token
MAX_BODY = 32 << 20  # bytes; the API's own limit (https://platform.claude.com/docs/en/api/errors)
MAX_CONNECTIONS = 512  # a client that opens more must not use up the daemon's descriptors

NO_TURN = Rejection(403, "No turn is open for this token.")
STOPPED = Rejection(403, "A person has stopped this turn.")
TOO_LARGE = Rejection(413, f"The request is larger than {MAX_BODY} bytes.")
TOO_MANY = Rejection(429, "Too many calls at once.", (("retry-after", "1"),))
ALL_HELD = Rejection(429, "Other calls hold what is left of a budget.", (("retry-after", "5"),))
RESTS = "The model's API has asked for a rest."
NO_COUNTING = Rejection(404, "Tokens are not counted by this upstream.")
NO_MODEL = Rejection(404, "agent.models names no such model of the upstream's.")
UNREAD = Rejection(502, "The gateway could not read the request in time.")
BROKEN = Rejection(502, "The gateway failed.")


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request at the door, with an open turn's token."""

    request: web.BaseRequest
    target: Endpoint
    sitting: Sitting
    call: Call


class Door:
    """Answers requests. `calls` are those under way, of all tokens."""

    def __init__(
        self,
        *,
        seats: Seats,
        inspection: Inspection,
        accounts: Accounts,
        relay: Relay,
        cooldown: Cooldown,
        dialect: Dialect,
    ) -> None:
        self._seats, self._inspection, self._accounts = seats, inspection, accounts
        self._relay, self._cooldown, self._dialect = relay, cooldown, dialect
        self.calls: set[Call] = set()

    def server(self) -> web.Server:
        """A protocol factory for this door. A client that goes away cancels its request."""
        return _Server(
            self._handle, handler_cancellation=True, access_log=None, auto_decompress=False
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._answer(request)
        except Exception:  # the request boundary: a defect of ours must not reach the client
            log.exception("gateway.request_broke")
            answer = BROKEN
        if not isinstance(answer, Rejection):
            return answer
        headers = {**dict(answer.headers), "content-type": "application/json"}
        return web.Response(status=answer.status, body=answer.body(), headers=headers)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse | Rejection:
        target = rules.endpoint(request.method, request.raw_path, request.headers.items())
        if isinstance(target, Rejection):
            return target
        seat = self._seats.find(rules.tokens(request.headers.items()))
        sitting = seat.sitting if seat else None
        if sitting is None:
            return NO_TURN
        if sitting.halted:
            return STOPPED
        if len(sitting.calls) >= MAX_CALLS:
            return TOO_MANY
        call = Call(request.transport)
        sitting.calls.add(call)
        self.calls.add(call)
        try:
            return await self._admit(_Visit(request, target, sitting, call))
        finally:
            sitting.calls.discard(call)
            self.calls.discard(call)
            call.done.set()

    async def _admit(self, visit: _Visit) -> web.StreamResponse | Rejection:
        data = await _read_body(visit.request)
        if data is None:
            return TOO_LARGE
        counts = visit.target.path != rules.MESSAGES
        if counts and not self._dialect.counts:
            return NO_COUNTING
        try:
            judged = await self._inspection.judge(data, counts=counts)
        except Improper as error:
            log.info("gateway.body_refused", turn=visit.sitting.turn.id, reason=str(error))
            return Rejection(400, str(error))
        except Unread:
            return UNREAD
        if not self._dialect.has(judged.asked.model):
            return NO_MODEL
        if counts:  # it costs nothing, and has limits of its own
            return await self._carry(visit, judged, None, Exchange())
        entered = await self._cooldown.enter()
        if not isinstance(entered, Pass):
            return Rejection(429, RESTS, (("retry-after", str(math.ceil(entered))),))
        try:
            return await self._ask(visit, judged, entered)
        finally:
            self._cooldown.leave(entered)

    async def _ask(
        self, visit: _Visit, judged: Judged, leave: Pass
    ) -> web.StreamResponse | Rejection:
        sitting = visit.sitting
        held = await self._accounts.hold(sitting, judged.asked)
        if isinstance(held, Refusal):
            return Rejection(403, f"budget: {held.scope}")
        if held is None:
            return ALL_HELD
        exchange = Exchange(partial(self._cooldown.heard, leave))
        try:
            return await self._carry(visit, judged, held.max_tokens, exchange)
        finally:
            self._accounts.settle(sitting, held, exchange)

    async def _carry(
        self, visit: _Visit, judged: Judged, max_tokens: int | None, exchange: Exchange
    ) -> web.StreamResponse | Rejection:
        headers = tuple(visit.request.headers.items())
        wish = Wish(visit.target, headers, judged, max_tokens)
        return await self._relay.carry(visit.request, wish, visit.call, exchange)


class _Server(web.Server):
    """aiohttp's low-level server, with a limit to its connections."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """The whole body; None: it is too large."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    parts, size = [], 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > MAX_BODY:
            return None
        parts.append(chunk)
    return b"".join(parts)
