"""Socket Mode: tickets, websockets, envelopes, acks, redelivery, and what can go wrong there.

Sources: docs.slack.dev/apis/events-api/using-socket-mode (up to ten connections, each payload to
one of them; an ack within 3 s; then at once, after one and after five minutes again).
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import ClientConnectionResetError, WSMsgType, web

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from daemon.demo.slack.journal import Journal

Json = dict[str, Any]
Reason = Literal["warning", "refresh_requested", "too_many_websockets", "link_disabled"]
Loss = Literal["close", "abort"]
MAX_SOCKETS = 10


@dataclass(slots=True)
class Delivering:
    """How events are delivered; times in seconds. The defaults are Slack's.

    `hold_unconnected` keeps an event for the next connection instead of counting a failed attempt
    when there is none. `ack_any_socket` False: only the socket that carried an envelope can ack it.
    """

    ack_timeout: float = 3.0
    retry_delays: tuple[float, ...] = (0.0, 60.0, 300.0)
    ticket_life: float = 30.0
    hold_unconnected: bool = False
    ack_any_socket: bool = True


@dataclass(slots=True)
class SocketFaults:
    """Counters of what is to go wrong next; each use takes one off."""

    dead_tickets: int = 0  # tickets that answer 408 for ever
    duplicates: int = 0  # events that are sent twice, each in an envelope of its own
    dropped_acks: int = 0  # acks that are taken for not arrived
    lost_after_delivery: int = 0  # sockets that go just after an event was written to them
    loss: Loss = "close"
    closed_at_hello: int = 0  # sockets that are closed just after their hello
    black_hole: bool = False  # new connections are accepted and never answered


@dataclass(slots=True, eq=False)
class Socket:
    number: int
    ws: web.WebSocketResponse
    request: web.Request
    deaf: bool = False  # open, but nothing goes in or out


@dataclass(slots=True)
class Envelope:
    event_id: str
    socket: Socket
    sent: float
    acked: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Hub:
    """All sockets of the app and the events on their way to it."""

    def __init__(self, journal: Journal, app: str, delivering: Delivering, seed: int) -> None:
        self.journal = journal
        self.delivering = delivering
        self.faults = SocketFaults()
        self.sockets: list[Socket] = []
        self._app = app
        self._tickets: dict[str, float] = {}
        self._dead: set[str] = set()
        self._envelopes: dict[str, Envelope] = {}
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected = asyncio.Event()
        self._opened = 0
        self._released = asyncio.Event()  # set when a black hole ends

    # --- tickets and connections

    def ticket(self) -> str:
        """A new ticket: good for one connection, for `ticket_life` seconds."""
        ticket = secrets.token_hex(8)
        if self.faults.dead_tickets > 0:
            self.faults.dead_tickets -= 1
            self._dead.add(ticket)
        self._tickets[ticket] = time.monotonic()
        self.journal.write("ticket", ticket=ticket, dead=ticket in self._dead)
        return ticket

    def _spend(self, ticket: str) -> bool:
        issued = self._tickets.get(ticket)
        if issued is None or ticket in self._dead:
            return False
        del self._tickets[ticket]
        return time.monotonic() - issued < self.delivering.ticket_life

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /link?ticket=...`: HTTP 408 where the ticket is dead, spent or expired."""
        if self.faults.black_hole:
            self.journal.write("socket", what="swallowed")
            await self._released.wait()
        ticket = request.query.get("ticket", "")
        if not self._spend(ticket):
            self.journal.write("socket", what="refused", ticket=ticket)
            return web.Response(status=408, text="Request Timeout")
        ws = web.WebSocketResponse(autoping=False, timeout=1.0)
        await ws.prepare(request)
        self._opened += 1
        socket = Socket(self._opened, ws, request)
        self.sockets.append(socket)
        try:
            await self._greet(socket)
            await self._read(socket)
        finally:
            self._gone(socket)
        return ws

    async def _greet(self, socket: Socket) -> None:
        self.journal.write("socket", what="opened", socket=socket.number)
        hello = {
            "type": "hello",
            "num_connections": len(self.sockets),
            "debug_info": {
                "host": "applink-stand-in",
                "build_number": 1,
                "approximate_connection_time": 18060,
            },
            "connection_info": {"app_id": self._app},
        }
        await self.send(socket, hello)
        if len(self.sockets) > MAX_SOCKETS:
            await self.disconnect("too_many_websockets", [socket], close_after=0.0)
        if self.faults.closed_at_hello > 0:
            self.faults.closed_at_hello -= 1
            await self.lose([socket], "close")
        if not socket.ws.closed:
            self._connected.set()

    def _gone(self, socket: Socket) -> None:
        if socket in self.sockets:
            self.sockets.remove(socket)
        if not self.sockets:
            self._connected.clear()
        self.journal.write("socket", what="closed", socket=socket.number, code=socket.ws.close_code)

    async def _read(self, socket: Socket) -> None:
        async for message in socket.ws:
            if socket.deaf:
                continue
            if message.type is WSMsgType.PING:
                await self._quietly(socket.ws.pong(message.data))
            elif message.type is WSMsgType.TEXT:
                self._hear(socket, message.data)

    def _hear(self, socket: Socket, text: str) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            frame = {"unreadable": text}
        envelope = self._envelopes.get(str(frame.get("envelope_id")))
        if envelope is None:
            self.journal.write("frame", socket=socket.number, frame=frame)
            return
        dropped = self.faults.dropped_acks > 0
        self.faults.dropped_acks -= dropped
        elsewhere = socket is not envelope.socket
        counted = not dropped and (self.delivering.ack_any_socket or not elsewhere)
        late = envelope.acked.done()
        self.journal.write(
            "ack",
            envelope_id=frame["envelope_id"],
            event_id=envelope.event_id,
            socket=socket.number,
            seconds=round(time.monotonic() - envelope.sent, 6),
            counted=counted and not late,
            dropped=dropped,
            late=late,
            response=frame.get("payload"),
        )
        if counted and not late:
            envelope.acked.set_result(None)

    # --- deliveries

    def publish(self, body: Json) -> str:
        """Start delivering an event's body; its event_id. Needs a running loop."""
        event = body.get("event") or {}
        event_id = str(body.get("event_id", ""))
        self.journal.write(
            "event",
            event_id=event_id,
            type=event.get("type"),
            subtype=event.get("subtype"),
            channel=event.get("channel"),
            ts=event.get("ts"),
            payload=body,
        )
        copies = 1
        if self.faults.duplicates > 0:
            self.faults.duplicates -= 1
            copies = 2
        for _ in range(copies):
            self._spawn(self._deliver("events_api", event_id, body))
        return event_id

    def interact(self, kind: str, body: Json) -> str:
        """Send an `interactive` or `slash_commands` payload once: Slack does not repeat these."""
        label = str(body.get("trigger_id", ""))
        self.journal.write("interaction", type=kind, event_id=label, payload=body)
        self._spawn(self._deliver(kind, label, body))
        return label

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, kind: str, event_id: str, body: Json) -> None:
        reason = ""
        delays = self.delivering.retry_delays if kind == "events_api" else ()
        for attempt, delay in enumerate((0.0, *delays)):
            if delay:
                await asyncio.sleep(delay)
            failure = await self._attempt(kind, event_id, body, attempt, reason)
            if failure is None:
                return
            reason = failure
        self.journal.write("gave_up", event_id=event_id, reason=reason)

    async def _attempt(
        self, kind: str, event_id: str, body: Json, attempt: int, reason: str
    ) -> str | None:
        """One delivery, to any of the sockets; None when acked, else why not."""
        if self.delivering.hold_unconnected:
            await self._connected.wait()
        usable = [socket for socket in self.sockets if not socket.ws.closed]
        if not usable:
            self.journal.write("delivery", event_id=event_id, attempt=attempt, socket=None)
            return "connection_failed"
        socket = self._random.choice(usable)
        envelope_id = str(uuid.uuid4())
        envelope = self._envelopes[envelope_id] = Envelope(event_id, socket, time.monotonic())
        frame: Json = {
            "envelope_id": envelope_id,
            "payload": body,
            "type": kind,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            frame |= {"retry_attempt": attempt, "retry_reason": reason}
        self.journal.write(
            "delivery",
            event_id=event_id,
            envelope_id=envelope_id,
            attempt=attempt,
            reason=reason,
            socket=socket.number,
        )
        await self.send(socket, frame)
        if self.faults.lost_after_delivery > 0:
            self.faults.lost_after_delivery -= 1
            await self.lose([socket], self.faults.loss)
        try:
            await asyncio.wait_for(asyncio.shield(envelope.acked), self.delivering.ack_timeout)
        except TimeoutError:
            envelope.acked.cancel()
            return "timeout"
        return None

    # --- what a test or a person does to the connections

    async def send(self, socket: Socket, frame: Json | str) -> None:
        """Write a frame; nothing is written to a deaf socket, a closed one swallows it."""
        if not socket.deaf:
            text = frame if isinstance(frame, str) else json.dumps(frame)
            await self._quietly(socket.ws.send_str(text))

    @staticmethod
    async def _quietly(sending: Coroutine[Any, Any, None]) -> None:
        try:
            await sending
        except ClientConnectionResetError:
            return  # the other side has gone: its reader ends by itself

    async def disconnect(
        self, reason: Reason, sockets: list[Socket], close_after: float | None
    ) -> None:
        """Announce the end of connections; they are closed `close_after` seconds later, if at all.

        Slack sends `warning` about ten seconds ahead of `refresh_requested`.
        """
        frame = {
            "type": "disconnect",
            "reason": reason,
            "debug_info": {"host": "applink-stand-in"},
        }
        for socket in list(sockets):
            self.journal.write("socket", what="disconnect", socket=socket.number, reason=reason)
            await self.send(socket, frame)
        if close_after == 0.0:
            await self.lose(sockets, "close")
        elif close_after is not None:
            self._spawn(self._lose_later(list(sockets), close_after))

    async def _lose_later(self, sockets: list[Socket], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.lose(sockets, "close")

    async def lose(self, sockets: list[Socket], how: Loss) -> None:
        """End connections, with a closing handshake or by cutting TCP."""
        for socket in list(sockets):
            if how == "abort" and socket.request.transport:
                socket.request.transport.abort()
            elif not socket.ws.closed:
                self._spawn(self._close(socket))

    @staticmethod
    async def _close(socket: Socket) -> None:
        await socket.ws.close()

    def black_hole(self, *, on: bool) -> None:
        """On: open connections stay open and silent, new ones hang. Off: those that hang go on."""
        self.faults.black_hole = on
        for socket in self.sockets:
            socket.deaf = on
        if on:
            self._released.clear()
        else:
            self._released.set()

    def heal(self) -> None:
        """No more faults; deaf sockets hear again."""
        self.faults = SocketFaults()
        self.black_hole(on=False)

    async def stop(self) -> None:
        self._released.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(
            *(socket.ws.close(code=1001) for socket in list(self.sockets)), return_exceptions=True
        )
