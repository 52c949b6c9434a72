"""Showing that somebody is at work: the status of a thread. Best effort, never in a post's way.

`agents.sessions.setStatus` where the app is declared as an agent and the workspace has room for it,
else `assistant.threads.setStatus`, whose limit is a thread's own. One thread's work is shown by one
of them and taken away by the same: they share one place on the screen, and the last one wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import structlog

from connectors.slack.limits import Limited, Limiter
from connectors.slack.web import Refused, Web, answer_of
from daemon.clock import Clock
from daemon.errors import Unavailable
from daemon.model import JsonObject

log = structlog.get_logger()

# The app is no agent, or this workspace has no such method: the older one is tried.
NO_AGENT = frozenset(
    {"feature_not_enabled", "missing_scope", "no_permission", "not_authorized", "unknown_method"}
)
CALL_SECONDS = 3.0  # a status that takes longer is worth nothing
CLEARING_TRIES = 5
RENEW_SECONDS = 90.0  # the older one clears by itself after two minutes
LONGEST_SECONDS = 3600.0
MAX_SHOWN = 1000


@dataclass(slots=True)
class _Shown:
    """What a thread shows, and by which of the two."""

    user: str
    agent: bool
    lock: asyncio.Lock  # the thread's: a sign never overtakes the one before it is taken away
    text: str = ""
    since: float = 0.0
    at: float = 0.0


class Activity:
    """Statuses by (channel, thread)."""

    def __init__(self, *, web: Web, limiter: Limiter, clock: Clock, team: str = "") -> None:
        self.team = team
        self._web = web
        self._limiter = limiter
        self._clock = clock
        self._agent = True
        self._shown: dict[tuple[str, str], _Shown] = {}
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._clearing: set[asyncio.Task[None]] = set()

    async def show(self, target: JsonObject, text: str) -> None:
        """Show `text` in the thread of a target, or (empty) that nobody is at work any more."""
        channel, thread = target.get("channel"), target.get("thread_ts")
        if not isinstance(channel, str) or not isinstance(thread, str):
            return
        key = (channel, thread)
        if text:
            await self._begin(key, text, str(target.get("user", "")))
        elif (shown := self._shown.pop(key, None)) and not await self._call(key, shown, ""):
            task = asyncio.create_task(self._clear_later(key, shown), name="slack status clear")
            self._clearing.add(task)
            task.add_done_callback(self._clearing.discard)

    def at_work(self, channel: str) -> str | None:
        """The thread of a channel whose work began last, while it is shown."""
        return next((t for c, t in reversed(self._shown) if c == channel), None)

    async def clear_of(self, user: str) -> None:
        """Show nothing any more in threads that were shown for this user."""
        keys = [key for key, shown in self._shown.items() if shown.user == user]
        for channel, thread in keys:
            await self.show({"channel": channel, "thread_ts": thread}, "")

    async def renew(self) -> None:
        """Until cancelled: keep alive what Slack would clear while the work goes on."""
        while True:
            await self._clock.sleep(RENEW_SECONDS / 3)
            now = self._clock.monotonic()
            for key, shown in list(self._shown.items()):
                if now - shown.since > LONGEST_SECONDS:
                    self._shown.pop(key, None)
                elif not shown.agent and now - shown.at > RENEW_SECONDS:
                    await self._call(key, shown, shown.text)

    async def _begin(self, key: tuple[str, str], text: str, user: str) -> None:
        now = self._clock.monotonic()
        shown = self._shown.get(key)
        if shown is None:
            if len(self._shown) >= MAX_SHOWN:
                return
            lock = self._locks.setdefault(key, asyncio.Lock())
            shown = self._shown[key] = _Shown(user, self._agent, lock, since=now)
        elif shown.agent or shown.text == text:
            return  # "processing" has no text: once is enough
        shown.text = text
        await self._call(key, shown, text)

    async def _call(self, key: tuple[str, str], shown: _Shown, text: str) -> bool:
        """Whether it arrived. Calls of one thread never overtake each other."""
        try:
            async with asyncio.timeout(CALL_SECONDS), shown.lock:
                await self._set(key, shown, text)
        except (Refused, Unavailable, TimeoutError) as error:
            log.info("status.not_shown", reason=str(error) or type(error).__name__)
            return isinstance(error, Refused)  # asking again would not help
        shown.at = self._clock.monotonic()
        return True

    async def _set(self, key: tuple[str, str], shown: _Shown, text: str) -> None:
        channel, thread = key
        if shown.agent:
            try:
                await self._limited(
                    "agents.sessions.setStatus",
                    "",
                    self._web.safe.agents_sessions_setStatus,
                    channel_id=channel,
                    thread_ts=thread,
                    status="processing" if text else "active",
                )
            except Limited:
                if not text:
                    raise
                shown.agent = False
            except Refused as error:
                if error.code not in NO_AGENT:
                    raise
                self._agent = shown.agent = False
                log.info("status.agent_refused", reason=str(error))
            else:
                return
        await self._limited(
            "assistant.threads.setStatus",
            f"{channel}/{thread}",
            self._web.safe.assistant_threads_setStatus,
            channel_id=channel,
            thread_ts=thread,
            status=text,
        )

    async def _limited(
        self, method: str, place: str, call: Callable[..., Awaitable[Any]], **arguments: str
    ) -> None:
        """One call, if the limits let it go now. Raises Limited, Refused, Unanswered."""
        try:
            await self._limiter.enter(self.team, method, place)
            await answer_of(call(**arguments))
        except Limited as error:
            self._limiter.close(self.team, method, place, error.retry_after)
            raise

    async def _clear_later(self, key: tuple[str, str], shown: _Shown) -> None:
        """A status left standing would claim for an hour that somebody is at work."""
        for tries in range(1, CLEARING_TRIES + 1):
            await self._clock.sleep(2.0**tries)
            if key in self._shown or await self._call(key, shown, ""):
                return
