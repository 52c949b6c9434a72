"""One websocket of Socket Mode, from its ticket to its end: frames, pings, acknowledgements."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from aiohttp import ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest

log = structlog.get_logger()

AT_ONCE = 500  # events of one connection in hand; more wait unread in the socket
CLOSE_SECONDS = 1.0
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `silence` without a pong ends a connection; `linger` is how long one goes on
    hearing after Slack announced its end; `steady` how long it must live to clear its failures;
    `rest` lies between two back-fills; `recount` after a hello that counted strangers, a new one
    counts again.
    """

    ping: float = 3.0
    silence: float = 9.0
    hello: float = 10.0
    apart: float = 10.0
    linger: float = 10.0
    steady: float = 10.0
    finish: float = 3.0
    first_wait: float = 0.5
    last_wait: float = 30.0
    crowded: float = 30.0
    disabled: float = 300.0
    recount: float = 600.0
    rest: float = 30.0  # connections that come and go make no storm of reading


class Connection(AsyncBaseSocketModeClient):
    """The SDK's seam for a transport of one's own; Bolt answers an envelope through it, so that
    the acknowledgement goes out where the envelope came in.

    `replaced` is true once Slack has announced the connection's end. `handle` has an envelope
    registered and acknowledged; `proven` is called at the first hello with a pong.
    """

    def __init__(
        self,
        *,
        http: aiohttp.ClientSession,
        proxy: str | None,
        timing: Timing,
        logger: logging.Logger,
        handle: Callable[[Connection, SocketModeRequest], Coroutine[Any, Any, None]],
        proven: Callable[[Connection], None],
    ) -> None:
        self.logger = logger
        self.replaced = False
        self.connections: int | None = None
        self._http = http
        self._proxy = proxy
        self._timing = timing
        self._handle = handle
        self._proven = proven
        self._loop = asyncio.get_running_loop()
        self._ws: ClientWebSocketResponse | None = None
        self._opened_at = self._loop.time()
        self._hello_at: float | None = None
        self._pong_at: float | None = None
        self._told = False
        self._leaving: asyncio.Future[str] = self._loop.create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    # --- life

    async def open(self, url: str) -> None:
        """Raises aiohttp.ClientError, TimeoutError, OSError."""
        async with asyncio.timeout(self._timing.hello):
            self._ws = await self._http.ws_connect(
                url,
                autoping=False,
                proxy=self._proxy,
                timeout=ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
        self._opened_at = self._loop.time()
        self._tasks = [
            self._loop.create_task(self._read(self._ws), name="slack socket read"),
            self._loop.create_task(self._watch(self._ws), name="slack socket watch"),
        ]

    async def leaving(self) -> str:
        """Why it ends, once it does or once Slack announces that it will."""
        return await asyncio.shield(self._leaving)

    async def close(self, linger: float = 0.0) -> None:
        """Hear for at most `linger` seconds more, let what is in hand finish, then close."""
        try:
            if linger and self._tasks:
                await asyncio.wait(self._tasks[:1], timeout=linger)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            if self._handling:
                await asyncio.wait(self._handling, timeout=self._timing.finish)
            for task in self._handling:
                task.cancel()
            if self._handling:
                await asyncio.wait(self._handling)
            if self._ws is not None:
                await self._ws.close()

    def renew(self) -> None:
        """Make way for a successor, as if Slack had announced the end."""
        self.replaced = True
        self._leave("renewed")

    # --- ages, in seconds

    @property
    def age(self) -> float:
        return self._loop.time() - self._opened_at

    @property
    def hello_age(self) -> float | None:
        return None if self._hello_at is None else self._loop.time() - self._hello_at

    @property
    def pong_age(self) -> float | None:
        return None if self._pong_at is None else self._loop.time() - self._pong_at

    # --- frames

    async def _read(self, ws: ClientWebSocketResponse) -> None:
        reason = "closed"
        try:
            while (frame := await ws.receive()).type not in _ENDS:
                if frame.type is WSMsgType.PONG:
                    self._pong_at = self._loop.time()
                    self._tell()
                elif frame.type is WSMsgType.PING:
                    await ws.pong(frame.data)
                elif frame.type is WSMsgType.TEXT:
                    await self._hear(ws, frame.data)
        except (aiohttp.ClientError, OSError) as error:
            reason = type(error).__name__
        finally:
            self._leave(reason)

    async def _watch(self, ws: ClientWebSocketResponse) -> None:
        """Ping, and end the connection when nothing comes back: a half-open one looks healthy."""
        try:
            while True:
                await ws.ping()
                await asyncio.sleep(self._timing.ping)
                if self._hello_at is None and self.age > self._timing.hello:
                    self._leave("no hello")
                elif (self.pong_age or self.age) > self._timing.silence:
                    self._leave("silent")
        except (aiohttp.ClientError, OSError) as error:
            self._leave(type(error).__name__)

    async def _hear(self, ws: ClientWebSocketResponse, text: str) -> None:
        try:
            frame = json.loads(text)
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict):
            log.warning("socket.frame_unreadable", characters=len(text))
        elif frame.get("type") == "hello":
            self._hello_at = self._loop.time()
            number = frame.get("num_connections")
            self.connections = number if isinstance(number, int) else None
            self._tell()
            await ws.ping()
        elif frame.get("type") == "disconnect":
            self.replaced = True
            self._leave(str(frame.get("reason"))[:40])
        elif isinstance(frame.get("envelope_id"), str):
            await self._room.acquire()
            task = self._loop.create_task(self._handle(self, _request(frame)))
            self._handling.add(task)
            task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[None]) -> None:
        self._handling.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("socket.event_failed", exc_info=error)

    def _leave(self, reason: str) -> None:
        if not self._leaving.done():
            self._leaving.set_result(reason)

    def _tell(self) -> None:
        if not self._told and self._hello_at is not None and self._pong_at is not None:
            self._told = True
            self._proven(self)

    # --- what Bolt asks of a client

    async def is_connected(self) -> bool:
        return self._ws is not None and not self._ws.closed

    async def send_message(self, message: str) -> None:
        """Raises ConnectionError when the websocket has gone: Slack then brings the event again."""
        if self._ws is None:
            raise ConnectionResetError("not connected")
        await self._ws.send_str(message)


def _request(frame: dict[str, Any]) -> SocketModeRequest:
    """The SDK takes only objects for a payload: anything else is wrapped, to be kept as it is."""
    payload = frame.get("payload")
    attempt = frame.get("retry_attempt")
    return SocketModeRequest(
        type=str(frame.get("type")),
        envelope_id=frame["envelope_id"],
        payload=payload if isinstance(payload, dict) else {"unreadable": payload},
        retry_attempt=attempt if isinstance(attempt, int) else None,
        retry_reason=str(frame.get("retry_reason") or "")[:80] or None,
    )
