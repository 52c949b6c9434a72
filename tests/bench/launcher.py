"""What the launcher costs, and the proof that its walls hold."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from daemon.isolation.levels import LEVELS
from daemon.isolation.plan import Plan, write_launcher
from daemon.isolation.proof import prove
from tests.bench.rows import Row, compare, quantile

PROGRAM = Path("/bin/true")


async def launcher(root: Path, _url: str, starts: int = 60) -> list[Row]:
    """Starts of a program that ends at once, bare and through the launcher at each level."""
    for directory in ("work", "config", "home", "tmp"):
        (root / "a" / directory).mkdir(parents=True)
    ways: dict[str, Sequence[str]] = {
        "bare": [str(PROGRAM)],
        "python -I -S": [sys.executable, "-I", "-S", "-c", ""],
    }
    for level in LEVELS.values():
        plan = Plan.for_conversation(
            level=level,
            command=PROGRAM,
            root=root / "a",
            gateway_port=9,
            pid_file=root / "a.pid",
            env={},
        )
        ways[level.name] = [str(write_launcher(plan, root / level.name))]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(starts):
        for name, command in ways.items():
            taken[name].append(_milliseconds(partial(subprocess.run, command, check=True)))
    proofs = [await asyncio.to_thread(_prove, root) for _ in range(10)]
    rows = [
        compare(
            f"start through the launcher, {name}",
            "a Python that does nothing",
            taken[name],
            taken["python -I -S"],
        )[0]
        for name in LEVELS
    ]
    return [*rows, Row("the proof of the walls, p50", "-", quantile(proofs, 50), None, "ms", 10)]


def _prove(root: Path) -> float:
    return _milliseconds(lambda: asyncio.run(prove(LEVELS["landlock"], root)))


def _milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000
