"""When the API asks us to slow down (429, 529): one back-off for all calls, not each its own.

What was answered to one would be answered to the next. So all wait as long as the API said
(Retry-After), or a growing time; then the one that has waited longest goes ahead, and the others
follow once it is let in. One that is refused again and again (too large for what is left of a
minute's tokens, say) comes again behind those that wait, so that it keeps nobody from asking.

A call that has to wait is held here: the CLI sits through it without a retry, and asks no more
often for it (tests/integration/test_gateway_cli.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import structlog

from daemon.clock import Clock
from daemon.gateway.bell import Bell

log = structlog.get_logger()

BUSY = frozenset({429, 529})
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0  # of our own growing waits
LONGEST_ASKED_SECONDS = 3600.0  # a Retry-After beyond it is taken for this
HELD_SECONDS = 60.0  # the CLI gives up on a request after 120 s (options.py)


@dataclass(slots=True, eq=False)
class Pass:
    """A call's leave to ask. `ahead`: it is the one whose answer the others wait for."""

    ahead: bool = False


class Cooldown:
    """`enter` before each call, `heard` once its status is known, `leave` when it is over."""

    def __init__(self, clock: Clock, *, held: float = HELD_SECONDS) -> None:
        self._clock = clock
        self._held = held
        self._until = 0.0
        self._times = 0  # that the API asked for a rest, one after the other
        self._ahead: Pass | None = None
        self._line: dict[object, None] = {}  # those that wait, the longest first
        self._moved = Bell()

    @property
    def seconds(self) -> float:
        """How long the API has asked to be left alone; 0: it may be asked."""
        return max(0.0, self._until - self._clock.monotonic())

    async def enter(self) -> Pass | float:
        """Wait until the API may be asked. After `held` seconds, and at once where it would be
        longer: the seconds to come again after.
        """
        deadline = self._clock.monotonic() + self._held
        place = object()
        self._line[place] = None
        try:
            while not self._may_ask(place):
                left = deadline - self._clock.monotonic()
                if left <= 0 or self.seconds > left:
                    return max(self.seconds, FIRST_SECONDS)
                await self._moved.wait(self.seconds or left)
            leave = Pass(ahead=self._times > 0)
            self._ahead = leave if leave.ahead else None
            return leave
        finally:
            del self._line[place]
            self._moved.ring()

    def heard(self, leave: Pass, status: int, retry_after: float = 0.0) -> None:
        """What the API answered to a call, as soon as it is known."""
        if status in BUSY:
            self._rest(retry_after)
        elif status == 200 and leave.ahead:
            if self._times:
                log.info("model.asked_again", rests=self._times)
            self._times, self._until = 0, 0.0
        self.leave(leave)

    def leave(self, leave: Pass) -> None:
        """The call is over, however it ended: another may go ahead."""
        if leave is self._ahead:
            self._ahead = None
        self._moved.ring()

    def _may_ask(self, place: object) -> bool:
        if self.seconds or self._ahead is not None:
            return False
        return not self._times or place is next(iter(self._line))

    def _rest(self, retry_after: float) -> None:
        """Calls that were under way together are refused together: that counts once."""
        if not self.seconds:
            self._times += 1
        own = min(FIRST_SECONDS * 2 ** (self._times - 1), LONGEST_SECONDS)
        asked = min(retry_after, LONGEST_ASKED_SECONDS)
        # Never sooner than asked; not all daemons of a key at the same moment.
        seconds = asked + random.uniform(0, 0.1 * own) if asked else own * random.uniform(0.8, 1)  # noqa: S311
        until = self._clock.monotonic() + seconds
        if until > self._until:
            self._until = until
            log.warning("model.rests", seconds=round(seconds, 1), times=self._times)


def seconds_of(retry_after: str | None) -> float:
    """Of a Retry-After header: seconds. A date, which the API does not send, counts as nothing."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return 0.0
