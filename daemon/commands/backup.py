"""`postroom backup`: the ledger and all that lies beside it, consistent, while the daemon runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import typer

from daemon.config import Config
from daemon.errors import NotReachable, WrongUsage

# The ledger is copied by itself; the rest belongs to processes that a copy does not have.
_LEFT_OUT = frozenset({"ledger.db", "ledger.db-wal", "ledger.db-shm", "lock", "processes"})

# An agent may nest folders as deep as it likes; what is copied is named by whole paths.
_DEEPEST, _LONGEST = 200, 3000  # folders, and bytes, of 4096 that the kernel takes


async def back_up(config: Config, path: Path) -> None:
    """Copy into the new directory `path`, laid out as a data directory that can be run from. It
    appears whole or not at all.

    The ledger is copied last: a transcript may then know of more than it, which recovery settles,
    and never of less.
    """
    from daemon.ledger import read_only

    data = config.daemon.data_dir
    if not (data / "ledger.db").exists():
        raise NotReachable(f"{data} holds no ledger yet; there is nothing to back up")
    if path.exists():
        raise WrongUsage(f"{path} exists already; name a new directory")
    if path.resolve().is_relative_to(data.resolve()):
        raise WrongUsage(f"{path} lies in the data directory; name one outside of it")
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    ledger = await read_only(data)
    try:
        growing.mkdir(mode=0o700, parents=True)
        for item in sorted(data.iterdir()):
            if item.name not in _LEFT_OUT:
                _copy(item, growing / item.name)
        await ledger.backup(growing / "ledger.db")
        growing.rename(path)
    except (OSError, shutil.Error) as error:
        raise WrongUsage(f"{path} cannot be written: {_why(error)}") from error
    finally:
        await ledger.close()
        shutil.rmtree(growing, ignore_errors=True)
    typer.echo(f"backed up to {path}; to run it, set daemon.data_dir to that directory")


def _copy(source: Path, target: Path) -> None:
    """A file or a tree; links are copied as links. Temporary files of agents stay behind."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(
            source,
            target,
            symlinks=True,
            ignore=_temporary,
            copy_function=_copy_if_there,
        )
    else:
        _copy_if_there(str(source), str(target))


def _temporary(folder: str, names: list[str]) -> list[str]:
    """What is no part of a backup: what lies in a workspace's `tmp` (which must be there for its
    next process), what is no file (a socket, a pipe), and what is nested too deep, which is told.
    """
    here = Path(folder)
    if len(here.parts) > _DEEPEST or len(os.fsencode(here)) > _LONGEST:
        if names:
            typer.echo(f"left out, as it is nested too deep: what lies in {folder[:500]}", err=True)
        return names
    if here.name == "tmp" and here.parent.parent.name == "conversations":
        return names
    return [name for name in names if not _copyable(here / name)]


def _copyable(path: Path) -> bool:
    return path.is_symlink() or path.is_file() or path.is_dir()


def _copy_if_there(source: str, target: str) -> str:
    """Like copy2, but an agent's file that went away meanwhile is left out."""
    try:
        return shutil.copy2(source, target, follow_symlinks=False)
    except FileNotFoundError:
        return target


def _why(error: OSError | shutil.Error) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        return "; ".join(f"{name}: {why}" for name, _, why in error.args[0][:3])
    return error.strerror or str(error)
