"""How much more may come in: messages that wait for a turn, and free bytes where they are kept.

Nothing is refused by it. What can wait outside (mail on its server) is left there while there is
no room; what cannot (a Slack event) is still registered, until the disk itself takes no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.model import Health, HealthState

MOST_WAITING = 20_000
LOW_BYTES = 512 * 2**20
LOW_SHARE = 0.05  # of a small disk
AGAIN = 1.1  # so much better it has to be before more is fetched: no stop and go at the edge


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a file system: its size, and what we may still write."""

    size: int
    free: int

    @property
    def low(self) -> float:
        """Fewer free bytes than this are too few."""
        return min(LOW_BYTES, LOW_SHARE * self.size)


def disk_of(directory: Path) -> Disk:
    """Microseconds. Raises OSError."""
    found = os.statvfs(directory)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


class Room:
    """`waiting` says how many messages wait, as of a moment ago; `look` how the disk stands."""

    def __init__(self, *, waiting: Callable[[], int], look: Callable[[], Disk]) -> None:
        self._waiting = waiting
        self._look = look
        self._too_many = False
        self._too_little = False

    def full(self) -> str:
        """Why what can wait outside had better wait there, in words for operators; empty: room."""
        waiting = self._waiting()
        self._too_many = waiting >= MOST_WAITING / (AGAIN if self._too_many else 1)
        if self._too_many:
            return f"{waiting} messages wait for their turn"
        return self._short(self._look())

    def health(self) -> Health:
        """A warning while the disk is nearly full; the ledger's own check tells when it is."""
        disk = self._look()
        short = self._short(disk)
        numbers: dict[str, float | int | str | bool | None] = {"free_bytes": disk.free}
        if short:
            detail = f"{short}: mail waits on its server; make room, or give the data a larger disk"
            return Health(HealthState.WARN, detail, numbers=numbers)
        return Health(HealthState.PASS, numbers=numbers)

    def _short(self, disk: Disk) -> str:
        self._too_little = disk.free < disk.low * (AGAIN if self._too_little else 1)
        return f"{disk.free // 2**20} MiB are free on the disk" if self._too_little else ""
