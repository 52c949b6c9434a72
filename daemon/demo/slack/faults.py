"""What can be made to go wrong with a call of the Web API, and Slack's published rate limits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Answer = Literal["normal", "error", "status", "html", "cut", "hang"]


@dataclass(frozen=True, slots=True)
class Fault:
    """How one call is answered instead of normally; seconds for times.

    - `error`: `{"ok": false, "error": code}`; `status`: an HTTP status with a text body, 429 with
      Retry-After; `html`: 200 with a page; `cut`: the TCP connection is cut; `hang`: no answer
      until `heal()`, or until the caller goes away.
    - `performed`: the call is carried out first, so that only its answer is lost.
    - `delay`: waited before anything else; alone it makes a slow but normal call.
    """

    answer: Answer = "normal"
    performed: bool = False
    delay: float = 0.0
    code: str = "internal_error"
    status: int = 500
    retry_after: int | None = None


@dataclass(slots=True)
class Planned:
    method: str  # a pattern: "chat.*", "*"
    fault: Fault
    left: int | None  # None: until heal()


class Plan:
    """Faults that wait for their calls. The one planned first for a method goes first."""

    def __init__(self) -> None:
        self.planned: list[Planned] = []

    def add(self, method: str, fault: Fault, times: int | None) -> None:
        self.planned.append(Planned(method, fault, times))

    def take(self, method: str) -> Fault | None:
        for planned in self.planned:
            if not fnmatchcase(method, planned.method):
                continue
            if planned.left is not None:
                planned.left -= 1
                if planned.left <= 0:
                    self.planned.remove(planned)
            return planned.fault
        return None


# Calls a minute, per method and workspace: java-slack-sdk metadata/web-api/rate_limit_tiers.json.
# agents.sessions.* is not in that table; a third-party client reports tier 3.
TIER_1, TIER_2, TIER_3, TIER_4 = 1, 20, 50, 100
TIERS = {
    "apps.connections.open": TIER_1,
    "agents.sessions.setStatus": TIER_3,
    "assistant.threads.setSuggestedPrompts": TIER_3,
    "assistant.threads.setTitle": TIER_3,
    "chat.appendStream": TIER_4,
    "chat.delete": TIER_3,
    "chat.postEphemeral": TIER_4,
    "chat.startStream": TIER_2,
    "chat.stopStream": TIER_2,
    "chat.update": TIER_3,
    "conversations.history": TIER_3,
    "conversations.info": TIER_3,
    "conversations.open": TIER_3,
    "conversations.replies": TIER_3,
    "files.completeUploadExternal": TIER_4,
    "files.getUploadURLExternal": TIER_4,
    "files.info": TIER_4,
    "reactions.add": TIER_3,
    "reactions.remove": TIER_2,
    "team.info": TIER_3,
    "users.conversations": TIER_2,
    "users.info": TIER_4,
    "views.open": TIER_4,
    "views.publish": TIER_4,
    "views.update": TIER_4,
}
POSTS_BURST = 3  # docs say one a second to a channel, short bursts allowed; how short is not said
TICKET_BURST = 10  # else the ten connections that are allowed could not be opened


@dataclass(slots=True)
class Bucket:
    rate: float  # tokens a second
    size: float
    tokens: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def take(self, now: float) -> float:
        """0 when a token was there, else the seconds until there is one."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


class Limits:
    """Slack's published limits. `auth.test` has none that a daemon meets."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def wait(self, method: str, channel: str, thread_ts: str) -> int:
        """0 where the call may go, else whole seconds for Retry-After."""
        key, rate, size = (method, ""), 0.0, 1.0
        if method == "chat.postMessage":
            key, rate, size = (method, channel), 1.0, POSTS_BURST
        elif method == "assistant.threads.setStatus":  # about 60 a minute and thread
            key, rate, size = (method, channel + thread_ts), 1.0, 60
        elif method in TIERS:
            a_minute = TIERS[method]
            rate, size = a_minute / 60, max(a_minute, TICKET_BURST)
        else:
            return 0
        bucket = self._buckets.setdefault(key, Bucket(rate, size, tokens=size))
        seconds = bucket.take(time.monotonic())
        return 0 if seconds == 0 else max(1, int(seconds) + 1)
