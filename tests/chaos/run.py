"""One run from a plan to the checker's word."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.driver import Record, carry_out
from tests.chaos.plan import Plan, Size
from tests.chaos.stage import COMMAND, on_stage, read_ledger

CHECKER = Path(__file__).with_name("checker.py")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`violations` are the checker's: (rule, what). `integrity` is SQLite's word on the ledger."""

    directory: Path
    record: Record
    figures: dict[str, Any]
    violations: tuple[tuple[str, str], ...]
    integrity: str
    logged: dict[str, int]
    recovered: dict[str, int]
    ready_after: tuple[float, ...]

    @property
    def clean(self) -> bool:
        sound = self.integrity == "ok" and self.record.status == 0 and self.record.left == 0
        return sound and not self.violations


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
        logged, recovered = dict(stage.victim.counts), dict(stage.victim.recovered)
        ready_after = tuple(stage.victim.ready_after)
    told = await check(directory)
    return Outcome(
        directory=directory,
        record=record,
        figures=told["figures"],
        violations=tuple((rule, what) for rule, what in told["violations"]),
        integrity=str(read_ledger(directory / "data", "pragma integrity_check")),
        logged=logged,
        recovered=recovered,
        ready_after=ready_after,
    )


async def check(directory: Path) -> dict[str, Any]:
    """The checker in a process of its own, where it cannot even import the daemon."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(CHECKER), str(directory)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    told: dict[str, Any] = json.loads(out)
    return told
