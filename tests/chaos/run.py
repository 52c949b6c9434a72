"""One run from a plan to the checker's word."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.driver import Record, carry_out
from tests.chaos.plan import Plan, Size
from tests.chaos.stage import COMMAND, on_stage, read_ledger

CHECKER = Path(__file__).with_name("checker.py")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`violations` are the checker's: (rule, what). `wrong` is what only we can see: exit statuses,
    SQLite's word on the ledger, processes left.
    """

    directory: Path
    record: Record
    figures: dict[str, Any]
    violations: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...]
    logged: dict[str, int]
    recovered: dict[str, int]
    starts: int
    connected_after: tuple[float, ...]
    ready_after: tuple[float, ...]


async def run(
    plan: Plan,
    size: Size,
    directory: Path,
    *,
    command: tuple[str, ...] = COMMAND,
    quiet: float = 200.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Carry the plan out and have it checked. Everything stays in `directory`."""
    # The stand-ins' servers would report each connection that a death cuts.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    async with on_stage(directory, size, plan.seed, command) as stage:
        record = await carry_out(plan, stage, quiet=quiet, tell=tell)
        victim = stage.victim
    told = await check(directory)
    integrity = str(read_ledger(directory / "data", "pragma integrity_check"))
    return Outcome(
        directory=directory,
        record=record,
        figures=told["figures"],
        violations=tuple((rule, what) for rule, what in told["violations"]),
        wrong=tuple(_wrong(record, integrity)),
        logged=dict(victim.counts),
        recovered=dict(victim.recovered),
        starts=victim.starts,
        connected_after=tuple(victim.connected_after),
        ready_after=tuple(victim.ready_after),
    )


def _wrong(record: Record, integrity: str) -> Iterator[str]:
    for status in record.fell:
        yield f"ended by itself with {status}"
    for status in record.stops:
        if status != 0:
            yield f"stopped with {status}"
    if record.left:
        yield f"{record.left} processes left"
    if integrity != "ok":
        yield f"the ledger: {integrity}"


async def check(directory: Path) -> dict[str, Any]:
    """The checker in a process of its own, where it cannot even import the daemon."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(CHECKER), str(directory)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    told: dict[str, Any] = json.loads(out)
    return told
