"""What the gateway remembers of its calls, for health, metrics and people. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daemon.clock import Clock
from daemon.model import Health, HealthState, Usage


class Outcome(StrEnum):
    """How a call ended: the label of `model_requests_total`."""

    OK = "ok"
    CUT = "cut"  # the client went away, or the turn was closed
    BROKEN = "broken"  # the API cut its answer off
    REFUSED = "refused"  # a budget is spent; the API was not asked
    KEY_REFUSED = "key_refused"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    INVALID = "invalid"  # any other 4xx
    FAILED = "failed"  # any other 5xx, or an error within a stream
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"


API_TROUBLE = frozenset(
    {
        Outcome.BROKEN,
        Outcome.KEY_REFUSED,
        Outcome.RATE_LIMITED,
        Outcome.OVERLOADED,
        Outcome.FAILED,
        Outcome.UNREACHABLE,
        Outcome.TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class CallObserved:
    """One call to the messages path, ended. `status` is the API's (0: none came), `cost` in US
    dollars, times in seconds; `scope` is the budget that refused it ("" for none).
    `estimated` says that the usage is partly a guess, as the answer was cut off.
    """

    outcome: Outcome
    status: int
    model: str
    usage: Usage
    cost: float
    seconds: float
    first_byte_seconds: float | None = None
    scope: str = ""
    estimated: bool = False


Observe = Callable[[CallObserved], None]


def outcome_of(status: int) -> Outcome:
    match status:
        case 200:
            return Outcome.OK
        case 401:
            return Outcome.KEY_REFUSED
        case 429:
            return Outcome.RATE_LIMITED
        case 529:
            return Outcome.OVERLOADED
    return Outcome.INVALID if 400 <= status < 500 else Outcome.FAILED


class Record:
    """The state that `/healthz` shows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.in_flight = 0
        self.key_refused = False
        self._failing = False  # whether the last call that says something of the API failed
        self._succeeded: float | None = None  # by the monotonic clock
        self._success_at: float | None = None
        self._failure_at: float | None = None
        self._failure: CallObserved | None = None

    def note(self, call: CallObserved) -> bool:
        """Remember an ended call. True: whether the key is refused has changed by it."""
        before, now = self.key_refused, self._clock.now()
        if call.outcome is Outcome.KEY_REFUSED:
            self.key_refused = True
        elif call.status == 200:
            self.key_refused = False
        if call.outcome is Outcome.OK:
            self._failing, self._success_at = False, now
            self._succeeded = self._clock.monotonic()
        elif call.outcome in API_TROUBLE:
            self._failing, self._failure_at, self._failure = True, now, call
        return self.key_refused is not before

    def health(self, *, spent_today: float, tokens: int, blocked: bool, rests: float = 0) -> Health:
        """`ready` stays true: no outage of the model stops messages from being accepted. `rests`:
        seconds for which it has asked to be left alone.
        """
        state, detail = self._judge(blocked=blocked)
        failure = self._failure
        return Health(
            state=state,
            detail=detail,
            age=None if self._succeeded is None else self._clock.monotonic() - self._succeeded,
            numbers={
                "in_flight": self.in_flight,
                "tokens": tokens,
                "spent_today_usd": round(spent_today, 6),
                "key_refused": self.key_refused,
                "rests_seconds": round(rests, 1),
                "last_success": self._success_at,
                "last_failure": self._failure_at,
                "last_failure_status": failure.status if failure else None,
                "last_failure_outcome": failure.outcome.value if failure else None,
            },
        )

    def _judge(self, *, blocked: bool) -> tuple[HealthState, str]:
        if self.key_refused:
            return HealthState.FAIL, "the model's key was refused"
        if self._failing and self._failure is not None:
            status = f", status {self._failure.status}" if self._failure.status else ""
            return HealthState.WARN, f"the last call failed: {self._failure.outcome}{status}"
        if blocked:
            return HealthState.WARN, "the daily budget is spent"
        return HealthState.PASS, ""
