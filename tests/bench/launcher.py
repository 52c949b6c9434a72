"""What the launcher costs, and the proof that its walls hold."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from daemon.isolation import users
from daemon.isolation.levels import LEVELS, fitted, lacks
from daemon.isolation.plan import Plan, write_launcher
from daemon.isolation.proof import prove
from tests.bench.rows import Aim, Row, compare, more, quantile

PROGRAM = Path("/bin/true")
AIMS: dict[str, Aim] = {"landlock": more(25), "uid": more(25), "bwrap": more(60)}
"""Issue 4's, which names no aim for `uid`: it is to cost no more than `landlock`."""


async def launcher(root: Path, _url: str, starts: int = 60) -> list[Row]:
    """Starts of a program that ends at once, bare and through the launcher at each level."""
    conversations = root / "data" / "conversations"
    await asyncio.to_thread(_make_places, conversations)
    ways: dict[str, Sequence[str]] = {
        "bare": [str(PROGRAM)],
        "python -I -S": [sys.executable, "-I", "-S", "-c", ""],
    }
    all_levels = [fitted(level, conversations) for level in LEVELS.values()]
    levels = [level for level in all_levels if not lacks(level, conversations, None)]
    for level in levels:
        user = users.PROOF_NUMBERS[0] if level.own_users else None
        plan = Plan.for_conversation(
            level=level,
            command=PROGRAM,
            root=conversations / ("b" if user else "a"),
            gateway_port=9009,
            pid_file=root / "a.pid",
            env={},
            user=user,
        )
        ways[level.name] = [str(write_launcher(plan, root / level.name))]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(starts):
        for name, command in ways.items():
            taken[name].append(_milliseconds(partial(subprocess.run, command, check=True)))
    proofs = [await asyncio.to_thread(_prove, root) for _ in range(10)]
    rows = [
        compare(
            f"start through the launcher, {level.name}",
            beside,
            taken[level.name],
            taken[way],
            p50=AIMS.get(level.name) if way == "bare" else None,
        )[0]
        for level in levels
        for way, beside in (
            ("bare", "a bare start"),
            ("python -I -S", "a Python that does nothing"),
        )
    ]
    return [*rows, Row("the proof of the walls, p50", "-", quantile(proofs, 50), None, "ms", 10)]


def _make_places(conversations: Path) -> None:
    """Two workspaces; where this machine has users for them the second has one."""
    for name in ("a", "b"):
        for directory in ("work", "config", "home", "tmp"):
            (conversations / name / directory).mkdir(parents=True)
    conversations.parent.parent.chmod(0o711)
    if not users.missing(conversations):
        users.let_pass(conversations.parent, conversations)
        users.hand_over(conversations / "b", users.PROOF_NUMBERS[0])


def _prove(root: Path) -> float:
    return _milliseconds(lambda: asyncio.run(prove(LEVELS["landlock"], root)))


def _milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000
