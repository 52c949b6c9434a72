"""`postroom backup`: the ledger and the transcripts, consistent, while the daemon runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import typer

from daemon.config import Config
from daemon.errors import NotReachable, PostroomError


class _TargetTaken(PostroomError):
    """The target exists already; name a new one."""

    exit_code = 2


async def back_up(config: Config, path: Path) -> None:
    """Copy into the new directory `path`, laid out as a data directory that can be run from.

    The ledger is copied last: a transcript may then know of more than it, which recovery settles,
    and never of less.
    """
    from daemon.ledger import read_only

    data = config.daemon.data_dir
    if path.exists():
        raise _TargetTaken(f"{path} exists already; name a new directory")
    if not (data / "ledger.db").exists():
        raise NotReachable(f"{data} holds no ledger yet; nothing to back up")
    path.mkdir(mode=0o700, parents=True)
    for folder in ("conversations", "raw"):
        if (data / folder).exists():
            shutil.copytree(
                data / folder,
                path / folder,
                symlinks=True,
                ignore=shutil.ignore_patterns("tmp"),
                copy_function=_copy_if_there,
                dirs_exist_ok=True,
            )
    ledger = await read_only(data)
    try:
        await ledger.backup(path / "ledger.db")
    finally:
        await ledger.close()
    typer.echo(f"backed up to {path}; to run it: set daemon.data_dir to that directory")


def _copy_if_there(source: str, target: str) -> str:
    """Like copy2, but an agent's file that went away meanwhile is left out."""
    try:
        return shutil.copy2(source, target, follow_symlinks=False)
    except FileNotFoundError:
        return target
