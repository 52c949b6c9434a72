"""The named ways to try again: tenacity's, on the daemon's clock. Only one layer retries a call.

What is sent at most once (a post, a mail) is never retried here: delivery looks outside first.
"""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
)
from tenacity.wait import wait_random_exponential

from daemon.clock import Clock
from daemon.errors import OwnershipLost, Unavailable


def patiently(
    clock: Clock,
    *,
    longest: float,
    heard: Callable[[BaseException, int], float | None],
    over: tuple[type[Exception], ...] = (Unavailable,),
    first: float = 0.5,
) -> AsyncRetrying:
    """For what must succeed in the end: tried until it does, over the exceptions `over`.

    Waits grow from `first` to `longest` seconds, with jitter; an Unavailable that says when to come
    again is obeyed. `heard(error, tries)` is told of each failure, and may name the wait itself.
    OwnershipLost is never waited out.
    """
    growing = wait_random_exponential(multiplier=first, max=longest)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        assert error is not None  # noqa: S101 - only a failure is waited after
        named = heard(error, state.attempt_number)
        return named or getattr(error, "retry_after", 0.0) or float(growing(state))

    worth_it = retry_if_exception_type(over) & retry_if_not_exception_type(OwnershipLost)
    return AsyncRetrying(retry=worth_it, wait=pause, sleep=clock.sleep, reraise=True)
