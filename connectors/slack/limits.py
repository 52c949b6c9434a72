"""One shared limiter for all calls of the Web API: Slack's published limits, at four fifths.

Buckets are per (team, method), per (team, channel) or per thread; a 429 closes its bucket until
Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.clock import Clock
from daemon.errors import Unavailable

# Calls a minute, per method, workspace and app: docs.slack.dev/apis/web-api/rate-limits; the tiers
# are java-slack-sdk's metadata/web-api/rate_limit_tiers.json. agents.sessions.* is in neither: a
# third-party client reports tier 3.
TIER_2, TIER_3, TIER_4 = 20, 50, 100
SHARE = 0.8
TIERS = {
    "agents.sessions.setStatus": TIER_3,
    "chat.postEphemeral": TIER_4,
    "chat.update": TIER_3,
    "conversations.history": TIER_3,
    "conversations.open": TIER_3,
    "conversations.replies": TIER_3,
    "users.conversations": TIER_2,
    "users.info": TIER_4,
}
STATUSES_A_MINUTE = 60  # of assistant.threads.setStatus, to one thread: its page in the docs
POSTS_A_MINUTE = 200  # to a whole workspace: "several hundred"
# To one channel at once, then one a second ("short bursts" are allowed). Not the whole of a burst:
# what is left bears calls that arrive closer together than they went.
POSTS_BURST = 2
BURST = 10

Key = tuple[str, str, str]


class Limited(Unavailable):
    """Slack's rate limit, or ours before it, says: later. Nothing was called."""


@dataclass(slots=True)
class Bucket:
    """One limit: `interval` seconds a call, up to `burst` calls at once (GCRA).

    `due` is when the bucket will be empty again, in the clock's monotonic seconds.
    """

    interval: float
    burst: int
    due: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a call may go; 0: now."""
        return max(0.0, self.due - now - self.interval * (self.burst - 1))

    def take(self, now: float) -> None:
        self.due = max(self.due, now) + self.interval

    def close(self, now: float, seconds: float) -> None:
        """No call for so many seconds, and one at a time after that."""
        self.due = max(self.due, now + seconds + self.interval * (self.burst - 1))


class Limiter:
    """Says when a call may go. Calls that wait go in the order in which they asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[Key, Bucket] = {}

    async def enter(
        self, team: str, method: str, channel: str = "", *, patience: float = 0.0
    ) -> None:
        """Wait for the call's turn, at most `patience` seconds. Raises Limited if that is later."""
        now = self._clock.monotonic()
        buckets = self._of(team, method, channel)
        wait = max((bucket.wait(now) for bucket in buckets), default=0.0)
        if wait > patience:
            raise Limited(f"{method} waits for its rate limit", wait)
        for bucket in buckets:
            bucket.take(now)
        if wait > 0:
            await self._clock.sleep(wait)

    def close(self, team: str, method: str, channel: str, seconds: float) -> None:
        """Slack answered 429 with this Retry-After."""
        now = self._clock.monotonic()
        for bucket in self._of(team, method, channel)[-1:]:
            bucket.close(now, seconds)

    def _of(self, team: str, method: str, channel: str) -> list[Bucket]:
        """The limits that a call is under, the narrowest last."""
        if method == "chat.postMessage":
            return [
                self._bucket((team, method, ""), 60 / POSTS_A_MINUTE, POSTS_A_MINUTE // 4),
                self._bucket((team, method, channel), 1.0, POSTS_BURST),
            ]
        if method == "assistant.threads.setStatus":
            return [self._bucket((team, method, channel), 60 / (SHARE * STATUSES_A_MINUTE), BURST)]
        if method in TIERS:
            return [self._bucket((team, method, ""), 60 / (SHARE * TIERS[method]), BURST)]
        return []

    def _bucket(self, key: Key, interval: float, burst: int) -> Bucket:
        if key not in self._buckets and len(self._buckets) > 10_000:
            now = self._clock.monotonic()
            self._buckets = {k: b for k, b in self._buckets.items() if b.due > now}
        return self._buckets.setdefault(key, Bucket(interval, burst))
