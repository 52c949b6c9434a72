"""Programs of ours in processes of their own, that are asked on stdin and answer on stdout."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path


async def start(
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    limit: int,
    folder: Path | None = None,
    stderr: int = DEVNULL,
) -> Process:
    """With nothing of our environment but `env`; `limit` is the longest line of an answer in bytes.
    It works in `folder`, None: in the daemon's. Raises OSError.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        cwd=folder,
        limit=limit,
        start_new_session=True,  # a Ctrl-C is the daemon's to act upon
    )


def kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def see_gone(process: Process) -> None:
    """Wait for the end of a process that was killed, and close its pipes: a Process has no close of
    its own, and asyncio leaves it to a later callback, which a loop that ends now never runs.
    """
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
