"""Upkeep: what is older than the retention allows goes, once an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from daemon.clock import DAY_SECONDS, Clock
from daemon.config import RetentionTable
from daemon.model import Workspace
from daemon.ports import Agents, Ledger

log = structlog.get_logger()

EVERY_SECONDS = 3600.0
STRAY_AFTER_SECONDS = 3600.0
KEYS_DAYS = 30.0  # keys against duplicates are kept at least so long (SURFACE, [retention])


class Upkeep:
    def __init__(
        self,
        *,
        ledger: Ledger,
        agents: Agents,
        clock: Clock,
        retention: Callable[[], RetentionTable],
    ) -> None:
        self._ledger = ledger
        self._agents = agents
        self._clock = clock
        self._retention = retention

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await self._clock.sleep(EVERY_SECONDS)

    async def once(self) -> None:
        now, keep = self._clock.now(), self._retention()
        strays = await self._strays(now)
        workspaces = await self._ledger.retain(
            records_before=now - keep.records_days * DAY_SECONDS,
            workspaces_before=now - keep.workspaces_days * DAY_SECONDS,
            keys_before=now - max(keep.records_days, KEYS_DAYS) * DAY_SECONDS,
        )
        for workspace in (*workspaces, *strays):
            try:  # what an agent left there must not end the upkeep
                await asyncio.to_thread(self._agents.erase, workspace)
            except (OSError, ValueError, RecursionError):
                log.exception("workspace.not_erased", workspace=workspace.id)
        if workspaces or strays:
            log.info("retention.swept", workspaces=len(workspaces), strays=len(strays))

    async def _strays(self, now: float) -> list[Workspace]:
        """Workspaces that nobody needs: spares of a daemon that was killed, and what could not be
        removed before. A young one may be about to be adopted.
        """
        there = await asyncio.to_thread(self._agents.on_disk)
        kept = await self._ledger.adopted() | frozenset(self._agents.processes())
        return [
            workspace
            for workspace, made_at in there.items()
            if workspace.id not in kept and now - made_at > STRAY_AFTER_SECONDS
        ]
