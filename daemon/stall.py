"""The watch over the event loop, from a thread: what stops the loop cannot stop its watcher.

It says where a loop stands that no longer turns, which nobody can find out afterwards, and ends a
daemon whose loop does not come back: a container that is deaf is restarted by nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Callable

import structlog

from daemon.clock import Clock
from daemon.errors import PostroomError
from daemon.health import BLOCKED_AFTER_SECONDS

log = structlog.get_logger()

LOOK_SECONDS = 1.0
GIVEN_UP_AFTER_SECONDS = 120.0
FRAMES = 25  # innermost ones of a stack that is logged


class StallWatch:
    """`beat_at` is when the loop last turned, on the monotonic clock. Times in seconds. `end` ends
    the process at once: nothing that needs the loop can run any more, and nothing is lost by it.
    """

    def __init__(
        self,
        beat_at: Callable[[], float],
        clock: Clock,
        *,
        look: float = LOOK_SECONDS,
        stalled: float = BLOCKED_AFTER_SECONDS,
        given_up: float = GIVEN_UP_AFTER_SECONDS,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._beat_at = beat_at
        self._clock = clock
        self._look = look
        self._stalled = stalled
        self._given_up = given_up
        self._end = end
        self._over = threading.Event()

    async def run(self) -> None:
        """Until cancelled, over the loop that it is called in."""
        loop_thread = threading.get_ident()
        self._over.clear()
        thread = threading.Thread(
            target=self._watch, args=(loop_thread,), name="stall-watch", daemon=True
        )
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._over.set()

    def _watch(self, loop_thread: int) -> None:
        since: float | None = None  # the beat after which it stood still
        looked = self._clock.monotonic()
        while not self._over.wait(self._look):
            before, looked = looked, self._clock.monotonic()
            if looked - before > 2 * self._look + self._stalled:
                continue  # all of us stood still (SIGSTOP, a machine asleep), not the loop alone
            beat = self._beat_at()
            if since is not None and beat != since:
                log.warning("loop.moved_on", seconds=round(beat - since, 1))
                since = None
            age = looked - beat
            if age > self._stalled and since is None:
                since = beat
                log.error("loop.stalled", seconds=round(age, 1), stack=stack_of(loop_thread))
            if age > self._given_up:
                log.critical("loop.given_up", seconds=round(age, 1), stack=stack_of(loop_thread))
                self._end(PostroomError.exit_code)
                return


def stack_of(thread: int) -> list[str]:
    """Where a thread stands, outermost first: files, lines and functions, and no values."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to other threads
    frames = traceback.extract_stack(frame)[-FRAMES:] if frame is not None else []
    return [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
