"""Signals, as a context manager that leaves what was there before."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Signals:
    """`stop` is set by the first SIGTERM or SIGINT, `now` by a second one of either."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def _asked(self) -> None:
        (self.now if self.stop.is_set() else self.stop).set()


@contextmanager
def handled(on_reload: Callable[[], None]) -> Iterator[Signals]:
    """Handle SIGTERM, SIGINT and SIGHUP on the running loop."""
    loop, signals = asyncio.get_running_loop(), Signals()
    before = {number: signal.getsignal(number) for number in _HANDLED}
    loop.add_signal_handler(signal.SIGTERM, signals._asked)  # noqa: SLF001 - its own handler
    loop.add_signal_handler(signal.SIGINT, signals._asked)  # noqa: SLF001
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)  # the loop would leave the default there
