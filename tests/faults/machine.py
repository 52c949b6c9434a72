"""Faults of the machine beneath the daemon: its disk, its clock, its descriptors, its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from daemon.clock import DAY_SECONDS
from tests.e2e.looking import eventually
from tests.faults.stage import Stage
from tests.faults.trial import Times, trial

SEEN_SECONDS = 15.0
LEDGER = "ledger"
DISK_MB = 64
STALL_SECONDS = 12.0
CLOCKED = (sys.executable, "-m", "tests.faults.clocked")
EXIT_BROKEN = 70  # SURFACE, "Exit": internal


class NotHere(Exception):
    """This machine does not let the fault be made; the text says what it takes."""


# --- the disk -------------------------------------------------------------------------------------


async def disk_full(stage: Stage, times: Times) -> None:
    """The disk of `data_dir` is full: nothing is acknowledged that is not written."""
    async with (
        _small_disk(stage.root / "disk") as disk,
        trial(stage, times, data_dir=disk / "data") as it,
    ):
        gate = await it.at_work()
        it.struck()
        ballast = await asyncio.to_thread(_fill, disk)
        said = stage.ask()
        gate.release()
        await it.red(LEDGER, within=SEEN_SECONDS)
        assert not set(said.events) & stage.slack.deliveries.acked.keys()
        it.mended()
        ballast.unlink()
        await it.well()


async def ledger_locked(stage: Stage, times: Times) -> None:
    """Another program writes to the ledger's file and does not end."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        with _holding(it.daemon.data / "ledger.db"):
            it.struck()
            stage.ask()
            gate.release()
            await it.red(LEDGER, within=SEEN_SECONDS)
            it.mended()
        await it.well()


async def ledger_header_broken(stage: Stage, times: Times) -> None:
    """The first bytes of the ledger's file are noise: the start is refused, the file kept."""
    await _refused(stage, times, at=0)


async def ledger_page_broken(stage: Stage, times: Times) -> None:
    """A page amid the ledger's file is noise: the start is refused, the file kept."""
    await _refused(stage, times, at=4096 * 5)


async def _refused(stage: Stage, times: Times, *, at: int) -> None:
    async with trial(stage, times) as it:
        daemon, path = it.daemon, it.daemon.data / "ledger.db"
        assert await daemon.stop() == 0
        sound = path.read_bytes()
        broken = sound[:at] + os.urandom(2048) + sound[at + 2048 :]
        path.write_bytes(broken)
        stage.ask()
        it.struck()
        status, _, error = await daemon.run("run")
        it.noticed(f"exit {status}")
        assert status == EXIT_BROKEN
        assert error.startswith("postroom: ")
        assert "restore a backup" in error, error
        assert str(path) in error
        assert path.read_bytes() == broken, "it is kept as it was found"
        it.mended()
        path.write_bytes(sound)
        await daemon.start()
        await it.well()


# --- the clock ------------------------------------------------------------------------------------


async def clock_forward(stage: Stage, times: Times) -> None:
    """The clock jumps two days forward while a turn and an answer wait; nobody is given up on."""
    await _jump(stage, times, 2 * DAY_SECONDS)


async def clock_back(stage: Stage, times: Times) -> None:
    """The clock jumps two days back while a turn and an answer wait; they wait no longer."""
    await _jump(stage, times, -2 * DAY_SECONDS)


async def _jump(stage: Stage, times: Times, seconds: float) -> None:
    offset = stage.root / "clock"
    offset.write_text("0")
    async with trial(stage, times, command=(*CLOCKED, str(offset), "run")) as it:
        gate = await it.at_work()
        await stage.web.cut()
        gate.release()
        await eventually(lambda: it.daemon.logged("delivery.deferred"), "an answer that waits")
        stage.model.fail(529, times=None)
        stage.ask()
        await eventually(lambda: "later" in _outcomes(it.daemon.entries()), "a turn that waits", 60)
        asked = len(stage.model.journal)
        it.struck()
        offset.write_text(str(seconds))
        await it.noted("clock jumped", within=SEEN_SECONDS)
        await it.until_after(10)
        assert len(stage.model.journal) <= asked + 8, "no storm"
        it.mended()
        stage.model.clear()
        await stage.web.heal()
        await it.well()


def _outcomes(entries: list[dict[str, object]]) -> list[object]:
    return [entry.get("outcome") for entry in entries if entry.get("event") == "turn.finished"]


# --- descriptors and time -------------------------------------------------------------------------


async def no_descriptors(stage: Stage, times: Times) -> None:
    """The daemon has no file descriptor left."""
    async with trial(stage, times) as it:
        pid = it.daemon.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = psutil.Process(pid).num_fds()
        it.struck()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        stage.ask()
        stage.socket.reset()
        await it.silent(within=SEEN_SECONDS)
        it.mended()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        await it.well()


async def stalled(stage: Stage, times: Times) -> None:
    """The whole daemon stands still (SIGSTOP), as in a machine that is paused."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        it.struck()
        os.kill(it.daemon.pid, signal.SIGSTOP)
        try:
            stage.ask()
            gate.release()
            await it.silent(within=SEEN_SECONDS)
            await it.until_after(STALL_SECONDS)
        finally:
            it.mended()
            os.kill(it.daemon.pid, signal.SIGCONT)
        await it.well()


# --- how they are made ----------------------------------------------------------------------------


@asynccontextmanager
async def _small_disk(point: Path) -> AsyncIterator[Path]:
    """A file system of its own. Raises NotHere."""
    await asyncio.to_thread(point.mkdir)
    await _mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(point))
    try:
        yield point
    finally:
        await asyncio.to_thread(
            subprocess.run, ["umount", "-l", str(point)], check=False, timeout=10
        )


async def _mount(*arguments: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run, ["mount", *arguments], check=False, capture_output=True, timeout=10
    )
    if done.returncode:
        raise NotHere("it takes the right to mount a file system")


def _fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast


@contextmanager
def _holding(ledger: Path) -> Iterator[None]:
    """A write transaction of somebody else."""
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


SCENARIOS = (
    disk_full,
    ledger_locked,
    ledger_header_broken,
    ledger_page_broken,
    clock_forward,
    clock_back,
    no_descriptors,
    stalled,
)
