"""Socket Mode: keeps connections open, proves them alive, and replaces them before they end.

One `Connection` is one ticket and one websocket. Slack's own client keeps a ticket for ever and
goes deaf on a dead one (measured, python-slack-sdk #1446): here no ticket is used twice.
Rules: docs.slack.dev/apis/events-api/using-socket-mode.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from slack_sdk.socket_mode.request import SocketModeRequest

from connectors.slack.connection import Connection, Timing
from connectors.slack.limits import Limited
from connectors.slack.web import AUTH_CODES, Refused, Unanswered, Web, answer_of
from daemon.errors import AuthenticationFailed

log = structlog.get_logger()

# After these the other end must be gone before a new one is opened.
HARSH = frozenset({"too_many_websockets", "link_disabled"})

FRESH_PINGS = 2  # a connection that has left so many pings unanswered proves nothing at present

Handle = Callable[[Connection, SocketModeRequest], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Proof:
    """How it stands with the connections, in seconds and numbers; None: never. `connections` is
    what Slack counted at the last hello, `strangers` how many of them were not ours.
    """

    open: int
    hello_age: float | None
    pong_age: float | None
    connections: int | None
    strangers: int


class Sockets:
    """`count` connections of one app, each one a slot that is filled again when it empties.

    `regained` is called when a connection is proven while no other one is: with how many seconds
    ago the last one was (None: none ever was).
    """

    def __init__(
        self,
        *,
        web: Web,
        app_token: str,
        count: int,
        timing: Timing,
        handle: Handle,
        regained: Callable[[float | None], None],
    ) -> None:
        self.proven = asyncio.Event()
        self.opened = 0
        self.trouble = ""
        self._web = web
        self._app_token = app_token
        self._count = count
        self._timing = timing
        self._handle = handle
        self._regained = regained
        self._last_pong: float | None = None  # of connections that have gone
        self._live: set[Connection] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._connections: int | None = None
        self._strangers = 0

    async def run(self, http: aiohttp.ClientSession) -> None:
        """Until cancelled. Raises AuthenticationFailed, in a group, when the token is refused."""
        try:
            async with asyncio.TaskGroup() as group:
                for slot in range(self._count):
                    group.create_task(self._keep(http, slot), name=f"slack socket {slot}")
        finally:
            for task in self._leaving:
                task.cancel()
            if self._leaving:
                await asyncio.wait(self._leaving)

    def proof(self) -> Proof:
        """Of the connection that answered last: only one that said hello counts."""
        greeted = [c for c in self._live if c.hello_age is not None]
        ponged = [c for c in greeted if c.pong_age is not None]
        best = min(ponged, key=lambda c: c.pong_age or 0.0, default=None)
        return Proof(
            open=len(greeted),
            hello_age=best.hello_age if best else None,
            pong_age=best.pong_age if best else None,
            connections=self._connections,
            strangers=self._strangers,
        )

    # --- one slot

    async def _keep(self, http: aiohttp.ClientSession, slot: int) -> None:
        # Not at the same time: connections opened together are also refreshed together.
        await asyncio.sleep(slot * self._timing.apart)
        failures = 0
        while True:
            url, failures = await self._ticket(failures)
            connection = Connection(
                http=http,
                proxy=self._web.proxy,
                timing=self._timing,
                logger=self._web.logger,
                handle=self._handle,
                proven=self._proven,
            )
            reason = await self._live_through(connection, url)
            log.info("socket.ended", slot=slot, reason=reason, seconds=round(connection.age, 1))
            steady = connection.hello_age is not None and connection.age > self._timing.steady
            failures = 0 if steady or connection.replaced else failures + 1
            await self._rest(reason, failures)

    async def _live_through(self, connection: Connection, url: str) -> str:
        """Open it and stay until it ends or announces its end; then it may finish its work."""
        self._live.add(connection)
        try:
            await connection.open(url)
            self.opened += 1
            reason = await connection.leaving()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = self.trouble = f"cannot be opened ({type(error).__name__})"
        except BaseException:
            self._forget(connection)
            await connection.close()
            raise
        if reason in HARSH or not connection.replaced:
            self._forget(connection)
            await connection.close()
        else:
            task = asyncio.create_task(self._wind_up(connection), name="slack socket leaving")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        return reason

    async def _wind_up(self, connection: Connection) -> None:
        """Slack announced this one's end: it goes on hearing while its successor is opened."""
        try:
            await connection.close(self._timing.linger)
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._live.discard(connection)
        if connection.pong_age is not None:
            pong = asyncio.get_running_loop().time() - connection.pong_age
            self._last_pong = max(pong, self._last_pong or pong)

    async def _ticket(self, failures: int) -> tuple[str, int]:
        """A new websocket URL, with the failures it took. Raises AuthenticationFailed."""
        while True:
            pause = 0.0
            try:
                answer = await answer_of(
                    self._web.safe.apps_connections_open(app_token=self._app_token)
                )
                if isinstance(url := answer.get("url"), str):
                    return url, failures
                self.trouble = "apps.connections.open gave no URL"
            except Limited as error:
                pause, self.trouble = error.retry_after, str(error)
            except Unanswered as error:
                self.trouble = str(error)
            except Refused as error:
                self.trouble = str(error)
                if error.code in AUTH_CODES:
                    raise AuthenticationFailed(
                        f"Slack refuses app_token ({error.code}): it takes an app-level token "
                        "(xapp-...) with connections:write"
                    ) from error
            failures += 1
            log.warning("socket.ticket_refused", reason=self.trouble, failures=failures)
            await asyncio.sleep(max(pause, self._back_off(failures)))

    async def _rest(self, reason: str, failures: int) -> None:
        if reason == "too_many_websockets":
            await asyncio.sleep(self._timing.crowded * random.uniform(1.0, 1.5))  # noqa: S311
        elif reason == "link_disabled":
            self.trouble = "Socket Mode is switched off in the app's settings"
            log.error("socket.mode_disabled")
            await asyncio.sleep(self._timing.disabled)
        elif failures:
            await asyncio.sleep(self._back_off(failures))

    def _back_off(self, failures: int) -> float:
        longest: float = min(
            self._timing.last_wait, self._timing.first_wait * 2 ** min(failures - 1, 12)
        )
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _proven(self, connection: Connection) -> None:
        """A connection has said hello and answered a ping for the first time."""
        self._connections = connection.connections
        self.trouble = ""
        self._strangers = max(0, (self._connections or 0) - max(len(self._live), self._count))
        if self._strangers:
            log.warning("socket.strangers_seen", connections=self._connections, ours=self._count)
            # Slack counts only at a hello: one more tells whether they are still there.
            asyncio.get_running_loop().call_later(self._timing.recount, connection.renew)
        others = [c.pong_age for c in self._live if c is not connection and c.pong_age is not None]
        if not any(age <= FRESH_PINGS * self._timing.ping for age in others):
            if self._last_pong is not None:
                others.append(asyncio.get_running_loop().time() - self._last_pong)
            self._regained(min(others, default=None))
        self.proven.set()
