"""Room on the disk: which conversations have outgrown what their files may take up."""

from __future__ import annotations

import asyncio

import structlog

from daemon.clock import Clock
from daemon.model import Workspace
from daemon.ports import Agents

log = structlog.get_logger()

TIDYING_BYTES = 16 * 2**20  # what a turn that deletes may write meanwhile, its transcript above all
SHARE = 10  # of looking the tenfold is rest: files by the million keep no processor busy


class Quota:
    """`limit` is bytes of all that a conversation has on the disk.

    One that is above it may not grow any further; it may be worked in, as else nothing in it could
    be deleted. What a daemon does not know yet to be above it counts as grown.
    """

    def __init__(self, agents: Agents, clock: Clock, limit: int) -> None:
        self._agents, self._clock, self._limit = agents, clock, limit
        # By workspace, of those above the limit: bytes when it had last outgrown, or fewest since.
        self._above: dict[str, int] = {}
        self._looked = 0.0

    async def outgrown(self, workspace: Workspace) -> bool:
        """Whether it is above the limit, and has grown there: since the last time that it had, and
        from the least that it has come down to since. Many small steps are growth like a large one.
        """
        began = self._clock.monotonic()
        try:
            size = await asyncio.to_thread(self._agents.disk_bytes, workspace)
        except FileNotFoundError:  # it was erased meanwhile
            size = 0
        except OSError:
            log.exception("workspace.not_measured", workspace=workspace.id)
            return False
        self._looked += self._clock.monotonic() - began
        before = self._above.pop(workspace.id, 0)
        if size is None:
            return True
        if size <= self._limit:
            return False
        grown = size > before + TIDYING_BYTES
        self._above[workspace.id] = size if grown else min(size, before)
        return grown

    def rest(self) -> float:
        """For how many seconds the disk is to be left alone, after what was looked at since this
        was last asked.
        """
        looked, self._looked = self._looked, 0.0
        return SHARE * looked
