"""An ordinary day, for long: the installed command, the real CLI within its walls, people who write
in threads and by mail. What is measured is what ought to stay as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Said
from tests.e2e.looking import agents_of, eventually
from tests.faults.stage import MARK, OPERATORS, Stage, on_stage
from tests.load.report import Report, seconds

SEED = 1
PAUSE_SECONDS = 2.0
THREADS = 12  # that people go on with: four times the processes
MAIL, NEW, TOOL = 0.1, 0.15, 0.1  # shares of what is said
AT_WORK = '[[tool:Bash {"command": "date >> log; wc -l log"}]]'
LOOK_SECONDS = 10.0
WARM_UP = 0.2  # of the time: until caches are full and every path was taken once
MB = 10**6
ANSWERED_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Look:
    """The daemon at one moment: `at` in hours, `resident` in bytes, and how many of the others."""

    at: float
    resident: int
    descriptors: int
    tasks: int
    processes: int


OF_A_LOOK: tuple[tuple[str, Callable[[Look], float], str], ...] = (
    ("memory", lambda look: look.resident / MB, " MB"),
    ("descriptors", lambda look: look.descriptors, ""),
    ("tasks", lambda look: look.tasks, ""),
    ("CLI processes", lambda look: look.processes, ""),
)
# Between the first and the last quarter, beyond which it counts as growth: of MB, and numbers.
GROWTH = {"memory": 8, "descriptors": 4, "tasks": 4, "CLI processes": 1}


async def soak(root: Path, report: Report, minutes: int, pause: float) -> None:
    """`pause` is the seconds between two messages, on the average."""
    rng = random.Random(SEED)
    async with on_stage(root, mail=True) as stage:
        daemon = stage.daemon(connectors__support={"max_replies_per_sender_daily": 10_000})
        async with daemon:
            until = time.monotonic() + 60 * minutes
            talking = asyncio.create_task(_talk(stage, rng, until, pause))
            looks = [look async for look in _looks(daemon, until)]
            asked_at = await talking
            with contextlib.suppress(AssertionError):
                await eventually(lambda: not stage.lost(), "every answer", ANSWERED_SECONDS)
            status = await daemon.stop()
        _tell(report, stage, asked_at, looks)
        _judge(report, stage, daemon, looks, status)


async def _talk(stage: Stage, rng: random.Random, until: float, pause: float) -> dict[str, float]:
    """Write as people do, until then; when each mark of a thread was asked (Unix seconds)."""
    asked_at: dict[str, float] = {}
    threads: list[Said] = []
    while time.monotonic() < until:
        what = rng.random()
        if what < MAIL:
            await stage.write()
        else:
            thread = None if not threads or what < MAIL + NEW else rng.choice(threads)
            said = stage.ask(AT_WORK if rng.random() < TOOL else "", thread=thread)
            asked_at[stage.asked[-1]] = time.time()
            if thread is None:
                threads = [*threads, said][-THREADS:]
        await asyncio.sleep(rng.expovariate(1 / pause))
    return asked_at


async def _looks(daemon: DaemonProcess, until: float) -> AsyncIterator[Look]:
    began = time.monotonic()
    process = psutil.Process(daemon.pid)
    while time.monotonic() < until:
        _, page = await daemon.get("/metrics")
        tasks = next(x for x in str(page).splitlines() if x.startswith("postroom_tasks "))
        yield Look(
            at=(time.monotonic() - began) / 3600,
            resident=process.memory_info().rss,
            descriptors=process.num_fds(),
            tasks=int(float(tasks.split()[1])),
            processes=len(agents_of(daemon, "claude")),
        )
        await asyncio.sleep(LOOK_SECONDS)


def _tell(report: Report, stage: Stage, asked_at: dict[str, float], looks: Sequence[Look]) -> None:
    answered = {
        mark: entry["at"]
        for entry in reversed(stage.slack.journal.of("post"))
        for mark in MARK.findall(entry["text"])
        if entry["by"] == "chat.postMessage" and entry["channel"] != OPERATORS
    }
    took = [answered[mark] - at for mark, at in asked_at.items() if mark in answered]
    first, last = _quarters(looks)
    report.add("soak", "messages in threads, mails", f"{len(asked_at)}, "
               f"{len(stage.asked) - len(asked_at)}")  # fmt: skip
    report.add("soak", "a thread answered after", seconds(took))
    for what, of, unit in OF_A_LOOK:
        values = [of(look) for look in looks]
        report.add("soak", f"{what}: start, first and last quarter, most",
                   f"{values[0]:.0f}, {_median(first, of):.0f}, {_median(last, of):.0f}, "
                   f"{max(values):.0f}{unit}")  # fmt: skip
    slope = statistics.linear_regression(
        [look.at for look in first + last], [look.resident / MB for look in first + last]
    ).slope
    report.add("soak", "memory, a line through both quarters", f"{slope:+.2f} MB an hour")


def _judge(
    report: Report, stage: Stage, daemon: DaemonProcess, looks: Sequence[Look], status: int
) -> None:
    first, last = _quarters(looks)
    for what, of, _ in OF_A_LOOK:
        grown = _median(last, of) - _median(first, of)
        report.check(f"{what} grew by {grown:.0f}", holds=grown <= GROWTH[what])
    left, restarted = agents_of(daemon), daemon.logged("service.restarting")
    report.check(f"lost: {stage.lost()[:5]}", holds=not stage.lost())
    report.check(f"twice: {stage.twice()[:5]}", holds=not stage.twice())
    report.check(f"the daemon ended with {status}", holds=status == 0)
    report.check(f"{len(left)} processes outlived it", holds=not left)
    report.check(f"{len(restarted)} services were restarted", holds=not restarted)


def _quarters(looks: Sequence[Look]) -> tuple[list[Look], list[Look]]:
    """The first and the last, of the time after the warm-up."""
    warm = list(looks[int(WARM_UP * len(looks)) :])
    quarter = max(1, len(warm) // 4)
    return warm[:quarter], warm[-quarter:]


def _median(looks: Sequence[Look], of: Callable[[Look], float]) -> float:
    return statistics.median(of(look) for look in looks)
