"""What a turn has outside by way of the proxy: its connections, and what they used. No I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from daemon.model import Turn


@dataclass(slots=True, eq=False)
class Outing:
    """`tasks` are its connections under way, `begun` how many there were; bytes sent and received
    by all of them.
    """

    turn: Turn
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    begun: int = 0
    sent: int = 0
    received: int = 0

    def take(self, task: asyncio.Task[None]) -> None:
        """One connection more, for as long as its task runs."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def cut(self) -> None:
        """End what is under way."""
        cut(self.tasks)

    async def end(self) -> None:
        """End what is under way, and return when that is recorded."""
        self.cut()
        if self.tasks:
            await asyncio.wait(set(self.tasks))


def cut(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel each once: a second time would reach it while it records its end."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()
