"""The system's clock, as a service: where it jumps, what waits is moved along with it.

Without that a jump of two days ahead would give up on every answer and turn that waits, and one
back would let them wait two days more.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from daemon.clock import JumpingClock
from daemon.ports import Ledger, Tell

log = structlog.get_logger()

LOOK_SECONDS = 1.0


class Timekeeping:
    """`tell` informs operators; `moved` is called when times in the ledger have."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: JumpingClock,
        tell: Tell,
        moved: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tell = tell
        self._moved = moved

    async def run(self) -> None:
        """Until cancelled. Raises LedgerError."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        seconds = self._clock.jumped()
        if not seconds:
            return
        await self._ledger.move_waiting(seconds)
        self._clock.follow(seconds)
        self._moved()
        log.warning("clock.jumped", seconds=round(seconds, 1))
        jump = f"{abs(seconds) / 3600:.1f} hours {'ahead' if seconds > 0 else 'back'}"
        await self._tell(
            f"clock/{self._clock.now():.0f}",
            f"the system's clock jumped {jump}; what waits was moved along. "
            "See to the machine's time synchronisation",
        )
