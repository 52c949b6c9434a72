"""What turns and days may cost, and what they have cost so far. In memory; the ledger has it all.

A call is judged before it is made and never cut off in the middle. While calls are under way each
holds an estimate, so that many at once cannot all pass just below a cap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from daemon.clock import Clock
from daemon.ports import Refusal

DAY = 86_400.0

SpentToday = Callable[[float], Awaitable[float]]
"""US dollars booked since this time (seconds since the Unix epoch): the start of the UTC day."""


@dataclass(slots=True)
class Purse:
    """What one open turn has spent and holds, in US dollars; `refusal` once it was refused."""

    spent: float = 0.0
    held: float = 0.0
    refusal: Refusal | None = None


class Caps:
    """`per_turn` and `daily` in US dollars (None: no limit). A day is a UTC day."""

    def __init__(self, clock: Clock, per_turn: float | None, daily: float | None) -> None:
        self._clock = clock
        self._per_turn, self._daily = per_turn, daily
        self._day = self._today()
        self._spent = 0.0
        self._held = 0.0

    def limit(self, per_turn: float | None, daily: float | None) -> None:
        """Set other limits; what was spent stays spent."""
        self._per_turn, self._daily = per_turn, daily

    async def load(self, spent_today: SpentToday) -> None:
        """Take over what was booked today before this process started. Raises LedgerError."""
        day = self._today()
        spent = await spent_today(day * DAY)
        self._day, self._spent = day, spent

    @property
    def spent_today(self) -> float:
        self._roll()
        return self._spent

    def blocked(self) -> Refusal | None:
        """Refusal("daily") while the day's budget is spent, or held by calls under way."""
        self._roll()
        if self._daily is not None and self._spent + self._held >= self._daily:
            return Refusal("daily")
        return None

    def judge(self, purse: Purse) -> Refusal | None:
        """Why this turn may not make a call now; remembered in its purse."""
        if self._per_turn is not None and purse.spent + purse.held >= self._per_turn:
            purse.refusal = Refusal("per_turn")
            return purse.refusal
        refusal = self.blocked()
        purse.refusal = purse.refusal or refusal
        return refusal

    def hold(self, purse: Purse, estimate: float) -> None:
        purse.held += estimate
        self._held += estimate

    def settle(self, purse: Purse, estimate: float, cost: float, started_at: float) -> None:
        """Let go of an estimate and count what it came to. A call belongs to the day on which it
        started, as it does in the ledger.
        """
        self._roll()
        purse.held = max(0.0, purse.held - estimate)
        self._held = max(0.0, self._held - estimate)
        purse.spent += cost
        if started_at // DAY == self._day:
            self._spent += cost

    def _today(self) -> float:
        return self._clock.now() // DAY

    def _roll(self) -> None:
        if (today := self._today()) != self._day:
            self._day, self._spent = today, 0.0
