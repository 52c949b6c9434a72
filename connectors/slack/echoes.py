"""Echoes: the bot's own posts come back as events where it is a member. What a pong cannot show.

A connection may answer each ping and bring no event at all (bolt-python #1529): nobody has to write
anything for us to see it, each answer is a question to Slack.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from connectors.slack.inbound import Bot
from daemon.clock import Clock

log = structlog.get_logger()

DUE_SECONDS = 60.0  # an echo takes a second; Slack's first retries are within a minute
MISSING = 2  # so many posts in a row without one are no accident
LOOK_SECONDS = 15.0
AGAIN_SECONDS = 600.0  # while none comes, what may have been missed is read back so often
MAX_KEPT = 200

Post = tuple[str, str]  # channel and ts


class Echoes:
    """`missed` is told since when (seconds since the epoch) events may not have come."""

    def __init__(self, *, name: str, clock: Clock, missed: Callable[[float], None]) -> None:
        self.heard_at: float | None = None  # monotonic
        self._name = name
        self._clock = clock
        self._missed = missed
        self._waiting: OrderedDict[Post, float] = OrderedDict()
        self._early: OrderedDict[Post, None] = OrderedDict()  # heard before Slack answered the post

    def posted(self, channel: str, ts: str) -> None:
        if (channel, ts) in self._early:
            return
        self._waiting[channel, ts] = self._clock.monotonic()
        while len(self._waiting) > MAX_KEPT:
            self._waiting.popitem(last=False)

    def heard(self, event: object, bot: Bot) -> None:
        """Any event. That a later post came back settles those before it."""
        if not isinstance(event, Mapping) or not _is_own_post(event, bot):
            return
        self.heard_at = self._clock.monotonic()
        post = (str(event.get("channel")), str(event.get("ts")))
        if post in self._waiting:
            while self._waiting.popitem(last=False)[0] != post:
                continue
        else:
            self._early[post] = None
            while len(self._early) > MAX_KEPT:
                self._early.popitem(last=False)

    @property
    def age(self) -> float | None:
        """Seconds since the last echo."""
        return None if self.heard_at is None else self._clock.monotonic() - self.heard_at

    @property
    def missing(self) -> int:
        """How many posts since the last echo should have come back by now."""
        due = self._clock.monotonic() - DUE_SECONDS
        return sum(at <= due for at in self._waiting.values())

    @property
    def trouble(self) -> str:
        if self.missing < MISSING:
            return ""
        return (
            f"the last {self.missing} posts did not come back as events: another program may hold "
            'app_token, or "Event Subscriptions" lacks the message events (`postroom slack '
            "manifest` lists all); what was missed is read back every ten minutes"
        )

    async def watch(self) -> None:
        """Until cancelled: have read back what no event may have brought."""
        told: float | None = None
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            now = self._clock.monotonic()
            if self.missing < MISSING:
                told = None
            elif told is None or now - told >= AGAIN_SECONDS:
                first = next(iter(self._waiting.values())) if told is None else told
                log.warning("events.not_coming", connector=self._name, missing=self.missing)
                self._missed(self._clock.now() - (now - first))
                told = now


def _is_own_post(event: Mapping[str, Any], bot: Bot) -> bool:
    own = event.get("user") == bot.user or (bool(bot.bot) and event.get("bot_id") == bot.bot)
    return own and event.get("type") == "message" and not event.get("hidden")
