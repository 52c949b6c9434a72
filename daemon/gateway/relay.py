"""Carries one request to the model's API and its answer back, chunk by chunk as they come."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from daemon.clock import Clock
from daemon.gateway import rules
from daemon.gateway.cooldown import seconds_of
from daemon.gateway.metering import BodyMeter, Meter, StreamMeter
from daemon.gateway.record import Outcome, outcome_of
from daemon.gateway.rules import Rejection
from daemon.gateway.seats import Call
from daemon.gateway.upstreams import Dialect, GarbledError, KeyRefusedError, Order, Reader, Wish

_LARGE = 1 << 20  # aiohttp wants larger bodies as a file, to send them piece by piece

KEY_REFUSED = Rejection(403, "The model's key was refused.")
UNREACHABLE = Rejection(502, "The model's API cannot be reached.")
TIMEOUT = Rejection(504, "The model's API did not answer in time.")
REDIRECTED = Rejection(502, "The model's API answered with a redirect.")

_STREAM_ERRORS = {"overloaded_error": Outcome.OVERLOADED, "rate_limit_error": Outcome.RATE_LIMITED}


@dataclass(slots=True)
class Exchange:
    """How far a call has come. Until its end is known it counts as cut: whoever reads this after
    a cancellation finds what is true. `heard` is called with the API's status and Retry-After (in
    seconds) as soon as they are there; `asked` says that the API may have begun to work.
    """

    heard: Callable[[int, float], None] = lambda _status, _retry_after: None
    asked: bool = False
    status: int = 0
    outcome: Outcome = Outcome.CUT
    first_byte_at: float | None = None
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, between two reads of a stream, and to the first byte of an answer that
    does not stream. There is no limit to a whole answer: the turn has its clock.
    """

    connect_seconds: float = 10.0
    idle_seconds: float = 120.0
    whole_seconds: float = 600.0

    def timeout(self, *, streams: bool) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=None,
            connect=self.connect_seconds,
            sock_connect=self.connect_seconds,
            sock_read=self.idle_seconds if streams else self.whole_seconds,
        )


class Relay:
    """Carries wishes over one pool of connections. Retries nothing: the client does that."""

    def __init__(self, dialect: Dialect, patience: Patience, clock: Clock) -> None:
        self._dialect, self._patience, self._clock = dialect, patience, clock
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
        )

    async def close(self) -> None:
        await self._session.close()

    async def carry(
        self, request: web.BaseRequest, wish: Wish, call: Call, exchange: Exchange
    ) -> web.StreamResponse | Rejection:
        """Ask for what is wished and pass the answer to the client; `exchange` tells how it
        went.
        """
        try:
            order = await self._dialect.order(wish)
            exchange.asked = True
            answer = await self._post(order, streams=wish.judged.asked.streams)
        except KeyRefusedError:
            exchange.outcome = Outcome.KEY_REFUSED
            return KEY_REFUSED
        except TimeoutError:
            exchange.outcome = Outcome.TIMEOUT
            return TIMEOUT
        except (aiohttp.ClientError, OSError):
            exchange.outcome = Outcome.UNREACHABLE
            return UNREACHABLE
        async with answer:  # leaving it half read closes the connection
            exchange.status = answer.status
            exchange.heard(answer.status, seconds_of(answer.headers.get("retry-after")))
            if answer.status in self._dialect.refusals:
                self._dialect.refused()
                # The CLI would repeat a 401 for over a minute (measured).
                exchange.outcome = Outcome.KEY_REFUSED
                return KEY_REFUSED
            if 300 <= answer.status < 400:
                exchange.outcome = Outcome.FAILED
                return REDIRECTED
            return await self._pass_on(request, answer, call, exchange)

    async def _post(self, order: Order, *, streams: bool) -> aiohttp.ClientResponse:
        return await self._session.post(
            order.url,
            data=io.BytesIO(order.body) if len(order.body) > _LARGE else order.body,
            headers=order.headers,
            timeout=self._patience.timeout(streams=streams),
            allow_redirects=False,
        )

    async def _pass_on(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        call: Call,
        exchange: Exchange,
    ) -> web.StreamResponse:
        reader = self._dialect.read(answer.status, answer.headers)
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        response.headers.extend(rules.to_client(answer.headers.items()))
        if reader.content_type is not None:
            response.headers["content-type"] = reader.content_type
        meter = exchange.meter = _meter(response)
        call.reading = meter.reading
        try:
            await response.prepare(request)
            while chunk := await self._read(answer, reader, exchange):
                if exchange.first_byte_at is None:
                    exchange.first_byte_at = self._clock.monotonic()
                try:
                    await response.write(chunk)
                finally:
                    meter.feed(chunk)
            if exchange.outcome is not Outcome.CUT:  # the API broke off: so does our answer
                call.abort()
                return response
            meter.end()
            await response.write_eof()
        except ConnectionError:  # the client has gone
            return response
        exchange.outcome = _ended(answer, meter)
        if answer.status == 200 and exchange.outcome in _STREAM_ERRORS.values():
            exchange.heard(529, 0.0)  # it said so in the middle of an answer
        return response

    async def _read(
        self, answer: aiohttp.ClientResponse, reader: Reader, exchange: Exchange
    ) -> bytes:
        """What has come, at least one byte; b"" at the end, and when the API broke off."""
        try:
            while chunk := await answer.content.readany():
                if told := reader.feed(chunk):
                    return told
            return reader.end()
        except TimeoutError:
            exchange.outcome = Outcome.TIMEOUT
        except (aiohttp.ClientError, OSError, GarbledError):
            exchange.outcome = Outcome.BROKEN
        return b""


def _meter(response: web.StreamResponse) -> Meter:
    streams = response.content_type == "text/event-stream"
    return StreamMeter() if streams else BodyMeter()


def _ended(answer: aiohttp.ClientResponse, meter: Meter) -> Outcome:
    if answer.status != 200:
        return outcome_of(answer.status)
    if meter.reading.error:
        return _STREAM_ERRORS.get(meter.reading.error, Outcome.FAILED)
    return Outcome.OK if meter.reading.finished else Outcome.BROKEN
