"""What a test outside the daemon looks at: processes, files, and states that nobody announces."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from daemon.demo.process import DaemonProcess
from daemon.demo.slack import StandInSlack

T = TypeVar("T")


async def eventually(look: Callable[[], T | None], what: str, within: float = 30.0) -> T:
    """The first truthy value of `look`, asked for often."""
    try:
        async with asyncio.timeout(within):
            while not (value := look()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not seen within {within:g} s: {what}") from None
    return value


def agents_of(daemon: DaemonProcess, name: str = "") -> list[psutil.Process]:
    """Every process that works below the daemon's conversations: CLIs, and tools of theirs."""
    return [process for process in psutil.process_iter() if _workplace(process, daemon, name)]


def workplaces(daemon: DaemonProcess, name: str) -> set[Path]:
    """In which directories processes of this name work."""
    found = (_workplace(process, daemon, name) for process in psutil.process_iter())
    return {place for place in found if place is not None}


def _workplace(process: psutil.Process, daemon: DaemonProcess, name: str) -> Path | None:
    try:
        place = Path(process.cwd())
        if place.is_relative_to(daemon.data / "conversations") and name in ("", process.name()):
            return place
    except (psutil.Error, OSError):  # gone meanwhile, or none of ours
        return None
    return None


def identities(processes: list[psutil.Process]) -> set[tuple[int, float]]:
    """Who they are, so that a later look tells them from others with the same pid."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add((process.pid, process.create_time()))
    return found


def turns_that_ended(daemon: DaemonProcess) -> list[str]:
    """The outcomes of the turns, from their summary lines."""
    return [str(entry["outcome"]) for entry in daemon.logged("turn.finished")]


def texts(slack: StandInSlack, channel: str, root: str) -> list[str]:
    """What stands of ours in a thread, oldest first."""
    return [post.text for post in slack.posts(channel, root)]


def transcribed(daemon: DaemonProcess, *parts: str) -> bool:
    """Whether a line of the CLI's transcripts holds all these parts. It writes some 0.1 s late."""
    return any(
        all(part in line for part in parts)
        for path in files_below(daemon.data / "conversations")
        if path.suffix == ".jsonl"
        for line in path.read_text().splitlines()
    )


def files_below(path: Path) -> Iterator[Path]:
    """Also while somebody works there: a folder that vanishes meanwhile has none."""
    for folder, _, names in os.walk(path):
        for name in names:
            found = Path(folder, name)
            if found.is_file() and not found.is_symlink():
                yield found
