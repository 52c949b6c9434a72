"""What systemd is told of us, by sd_notify(3): a datagram each. Without it nothing happens."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from daemon.clock import Clock


class Systemd:
    """`address` is NOTIFY_SOCKET (empty: nobody listens), `watchdog` the seconds within which it
    wants to hear that we make progress (0: it does not).
    """

    def __init__(self, clock: Clock, address: str = "", watchdog: float = 0.0) -> None:
        self._clock = clock
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every = watchdog / 3  # twice late is still in time
        self._told_at = float("-inf")

    def ready(self) -> None:
        """The start is over: what was in flight is settled, and the walls are proven."""
        self._tell("READY=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def progress(self) -> None:
        """From whatever proves it, as often as it likes."""
        now = self._clock.monotonic()
        if self._every and now - self._told_at >= self._every:
            self._told_at = now
            self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # Non-blocking, and nothing hangs on it: what is lost is said again, or times out there.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto(text.encode(), self._address)


def from_environment(clock: Clock, environ: MutableMapping[str, str]) -> Systemd:
    """Takes what systemd set out of the environment: no process of ours may speak for us."""
    address = environ.pop("NOTIFY_SOCKET", "")
    microseconds = environ.pop("WATCHDOG_USEC", "")
    ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    watchdog = int(microseconds) / 1e6 if ours and microseconds.isdigit() else 0.0
    return Systemd(clock, address, watchdog)
