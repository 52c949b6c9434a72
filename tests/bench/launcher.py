"""What the launcher costs: `python -m tests.bench.launcher [STARTS]`.

Prints p50 and p95 in milliseconds of starting a program that ends at once: bare, through the
launcher at each level, and of the whole proof.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from daemon.isolation.levels import LEVELS
from daemon.isolation.plan import Plan, write_launcher
from daemon.isolation.proof import prove

PROGRAM = Path("/bin/true")


def main() -> None:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for directory in ("work", "config", "home", "tmp"):
            (top / "a" / directory).mkdir(parents=True)
        ways = {"bare": str(PROGRAM), "bare python -I -S": ""}
        for level in LEVELS.values():
            plan = Plan.for_conversation(
                level=level,
                command=PROGRAM,
                root=top / "a",
                gateway_port=9,
                pid_file=top / "a.pid",
                env={},
            )
            executable = write_launcher(plan, top / level.name)
            ways[f"launcher, {level.name}"] = str(executable)
        print(f"{'start of ' + str(PROGRAM):28}{'p50 ms':>8}{'p95 ms':>8}   n = {starts}")
        for way, program in ways.items():
            command = [program] if program else [sys.executable, "-I", "-S", "-c", ""]
            row(way, starts, lambda command=command: subprocess.run(command, check=True))  # type: ignore[misc]
        row("the proof, landlock", 10, lambda: asyncio.run(prove(LEVELS["landlock"], top)))


def row(name: str, times: int, action: Callable[[], object]) -> None:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(taken, n=20)
    print(f"{name:28}{statistics.median(taken):8.1f}{cuts[-1]:8.1f}")


if __name__ == "__main__":
    main()
