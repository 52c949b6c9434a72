"""Proof of life: what a mailbox's server has answered, and how long ago. Ages, never flags.

A peer that has gone silent keeps its TCP connection up (its kernel still acknowledges), so only an
answer proves it. SURFACE, `/readyz`: SELECT and SEARCH done, then an answered probe on the watching
connection within a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daemon.clock import Clock

PROVEN_SECONDS = 60.0  # how young the last answered probe has to be


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `idle` and `poll` are the pauses between two probes: with the limit on an answer
    (client.Limits) they stay below PROVEN_SECONDS, or a quiet server would count as a silent one.
    """

    idle: float = 45.0
    poll: float = 15.0  # where the server has no IDLE
    reconcile: float = 900.0
    first_pause: float = 0.5  # when intake takes nothing
    last_pause: float = 5.0


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since each answer; None: none on the connections of now."""

    searched: float | None
    probed: float | None

    @property
    def alive(self) -> bool:
        fresh = self.probed is not None and self.probed < PROVEN_SECONDS
        return fresh and self.searched is not None


class ProofOfLife:
    """What was answered on the connections of now. `proven` is called when it first suffices."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._searched_at: float | None = None
        self._probed_at: float | None = None
        self._proven: Callable[[], None] | None = None

    def begin(self, proven: Callable[[], None]) -> None:
        """Nothing counts that was answered before."""
        self.forget()
        self._proven = proven

    def searched(self) -> None:
        """The working connection has answered a SEARCH."""
        self._searched_at = self._clock.monotonic()
        self._see()

    def probed(self) -> None:
        """The watching connection, which has done SELECT and SEARCH, has answered a probe."""
        self._probed_at = self._clock.monotonic()
        self._see()

    def forget(self) -> None:
        """The connections are gone, and what they proved with them."""
        self._searched_at = self._probed_at = None

    def ages(self) -> Ages:
        now = self._clock.monotonic()
        return Ages(
            None if self._searched_at is None else now - self._searched_at,
            None if self._probed_at is None else now - self._probed_at,
        )

    def _see(self) -> None:
        if self._proven is not None and self.ages().alive:
            proven, self._proven = self._proven, None
            proven()
