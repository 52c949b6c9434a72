"""The connector: looks into the inbox, registers what it finds, writes answers to the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from connectors._skeleton import outbound
from connectors._skeleton.config import SkeletonTable
from connectors._skeleton.inbound import parse
from daemon.errors import Unavailable
from daemon.model import (
    Answer,
    Effect,
    EffectKind,
    Health,
    HealthState,
    NewEffect,
    NotNow,
    Priority,
    Receipt,
    Rejected,
    Sent,
    Sighting,
    Unclear,
)
from daemon.plugin import Surroundings
from daemon.ports import Intake

FRESH_LOOKS = 3  # alive: the inbox was looked into within so many polls


class SkeletonConnector:
    """The port Connector (daemon/ports.py), and no more: every other ability is optional."""

    kind = "_skeleton"
    priority = Priority.MAIL

    def __init__(self, name: str, table: SkeletonTable, around: Surroundings) -> None:
        self.name = name
        self._table = table
        self._clock = around.clock
        self._looked_at: float | None = None

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        """Until cancelled. Raises Unavailable while the folders cannot be used, and LedgerError
        when nothing can be registered: the files then wait, and the supervisor starts us again.
        """
        while True:
            for path in await asyncio.to_thread(self._waiting):
                content, changed_at = await asyncio.to_thread(_read, path)
                await intake.accept(parse(self.name, path.name, content, changed_at))
                # Registered is on disk: only now is the outside told, by taking the file away.
                await asyncio.to_thread(path.rename, path.with_suffix(".done"))
            first, self._looked_at = self._looked_at is None, self._clock.monotonic()
            if first:
                ready()
            await self._clock.sleep(self._table.poll_seconds)

    async def compose(self, answer: Answer) -> tuple[NewEffect, ...]:
        return outbound.compose(answer)

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        if effect.kind is not EffectKind.POST:
            return Rejected(f"cannot carry out {effect.kind.value}")
        path = self._table.outbox / outbound.file_name(effect)
        draft = path.with_suffix(".new")
        try:
            await asyncio.to_thread(draft.write_text, str(effect.body["text"]), "utf-8")
        except OSError as error:
            return NotNow(type(error).__name__, 5.0)
        await sending()  # from here on, somebody may see it
        try:
            await asyncio.to_thread(draft.rename, path)
        except OSError as error:
            return Unclear(type(error).__name__)
        return Sent(path.name)

    async def find(self, effect: Effect) -> Sent | Sighting:
        path = self._table.outbox / outbound.file_name(effect)
        there = await asyncio.to_thread(path.exists)
        return Sent(path.name) if there else Sighting.ABSENT

    def health(self) -> Health:
        if self._looked_at is None:
            return Health(HealthState.FAIL, "has not looked yet", ready=False)
        age = self._clock.monotonic() - self._looked_at
        alive = age < FRESH_LOOKS * self._table.poll_seconds + 1
        state = HealthState.PASS if alive else HealthState.FAIL
        return Health(state, "" if alive else "looks no more", ready=alive, age=age)

    def _waiting(self) -> list[Path]:
        """The inbox's files, oldest name first. Raises Unavailable."""
        try:
            self._table.outbox.mkdir(parents=True, exist_ok=True)
            return sorted(path for path in self._table.inbox.iterdir() if path.suffix == ".txt")
        except OSError as error:
            raise Unavailable(f"the folders cannot be used: {type(error).__name__}") from error


def _read(path: Path) -> tuple[bytes, float]:
    """Raises Unavailable."""
    try:
        return path.read_bytes(), path.stat().st_mtime
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be read") from error
