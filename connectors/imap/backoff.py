"""How long to wait before a mailbox is connected to again: soon, but never a storm of logins."""

from __future__ import annotations

FIRST_WAIT = 0.25  # seconds, as all here
LONGEST_WAIT = 60.0
LONGEST_UNREACHED = 30.0
HALF_LIFE = 30.0
_SHARE = 0.1


class BackOff:
    """Two rules, the longer wait of which holds.

    A server that cannot be reached is tried again after a tenth of the time that it has been
    away: no login is made, and it is found soon after its return. Each failure after a login was
    tried doubles the wait. Where the connection had worked in between, earlier failures lose
    half their weight in half a minute: one that is cut now and then is back at once, one that
    never gets to work is not hammered.
    """

    def __init__(self) -> None:
        self._away_since: float | None = None
        self._weight = 0.0
        self._last = 0.0
        self._worked = False

    def proven(self) -> None:
        self._away_since, self._worked = None, True

    def failed(self, now: float, *, reached: bool) -> float:
        """Seconds to wait. `reached`: a login was tried, whatever came of it. `now`: monotonic."""
        if self._away_since is None:
            self._away_since = now
        if not reached:
            away = now - self._away_since
            return max(FIRST_WAIT, min(away * _SHARE, LONGEST_UNREACHED))
        if self._worked:
            self._weight *= 0.5 ** ((now - self._last) / HALF_LIFE)
        self._weight += 1
        self._last, self._worked = now, False
        return min(FIRST_WAIT * 2 ** min(self._weight - 1, 20), LONGEST_WAIT)
