"""Socket Mode's connections: tickets, hello, pings, disconnects, and what can go wrong there.

Sources: docs.slack.dev/apis/events-api/using-socket-mode (up to ten connections an app).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
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
class SocketFaults:
    """What is to go wrong next; each use of a counter takes one off."""

    dead_tickets: int = 0  # tickets that answer 408 for ever
    closed_at_hello: int = 0  # sockets that are closed just after their hello
    black_hole: bool = False  # new connections are accepted and never answered


@dataclass(slots=True, eq=False)
class Socket:
    number: int
    ws: web.WebSocketResponse
    request: web.Request
    deaf: bool = False  # open, but nothing goes in or out


class Sockets:
    """All websockets of the app. `heard` gets each JSON object that comes in on one."""

    def __init__(self, journal: Journal, app: str) -> None:
        self.journal = journal
        self.open: list[Socket] = []
        self.connected = asyncio.Event()  # set by each hello, cleared when the last one goes
        self.heard: Callable[[Socket, Json], None] = lambda _socket, _frame: None
        self.faults = SocketFaults()
        self.ticket_life = 30.0  # seconds
        self._app = app
        self._tickets: dict[str, float] = {}
        self._dead: set[str] = set()
        self._opened = 0
        self._released = asyncio.Event()  # set when a black hole ends
        self._tasks: set[asyncio.Task[None]] = set()

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
        return time.monotonic() - issued < self.ticket_life

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /link?ticket=...`: HTTP 408 where the ticket is dead, spent or expired."""
        if self.faults.black_hole:
            self.journal.write("socket", what="swallowed")
            await self._released.wait()
        if request.transport is None or request.transport.is_closing():
            return web.Response()  # gone while it waited
        ticket = request.query.get("ticket", "")
        if not self._spend(ticket):
            self.journal.write("socket", what="refused", ticket=ticket)
            return web.Response(status=408, text="Request Timeout")
        ws = web.WebSocketResponse(autoping=False, timeout=1.0)
        await ws.prepare(request)
        self._opened += 1
        socket = Socket(self._opened, ws, request)
        self.open.append(socket)
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
            "num_connections": len(self.open),
            "debug_info": {
                "host": "applink-stand-in",
                "build_number": 1,
                "approximate_connection_time": 18060,
            },
            "connection_info": {"app_id": self._app},
        }
        await self.send(socket, hello)
        if len(self.open) > MAX_SOCKETS:
            await self.disconnect("too_many_websockets", [socket], close_after=0.0)
        if self.faults.closed_at_hello > 0:
            self.faults.closed_at_hello -= 1
            await self.lose([socket], "close")
        if not socket.ws.closed:
            self.connected.set()

    def _gone(self, socket: Socket) -> None:
        if socket in self.open:
            self.open.remove(socket)
        if not self.open:
            self.connected.clear()
        self.journal.write("socket", what="closed", socket=socket.number, code=socket.ws.close_code)

    async def _read(self, socket: Socket) -> None:
        async for message in socket.ws:
            if socket.deaf:
                continue
            if message.type is WSMsgType.PING:
                await self._quietly(socket.ws.pong(message.data))
            elif message.type is WSMsgType.TEXT:
                self.heard(socket, _object(message.data))

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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        for socket in self.open:
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
            *(socket.ws.close(code=1001) for socket in list(self.open)), return_exceptions=True
        )


def _object(text: str) -> Json:
    """A frame's JSON object; anything else is kept for the journal as it came."""
    try:
        frame = json.loads(text)
    except ValueError:
        return {"unreadable": text}
    return frame if isinstance(frame, dict) else {"unreadable": text}
