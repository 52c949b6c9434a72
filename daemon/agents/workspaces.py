"""A conversation's directories on disk: made, measured, and removed without following what an agent
left in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from daemon.model import Workspace

DEEPEST = 64  # folders within folders: each holds descriptors while it is looked into
LEAST_BYTES = 4096  # an empty file takes up room, too: files by the million are as bad as long ones
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW


def make_workspace(conversations: Path) -> Workspace:
    """A new directory of four (0700 each) below `conversations`, and a session id for it."""
    name = f"ws-{uuid.uuid4().hex}"
    workspace = Workspace(id=name, root=conversations / name, session=str(uuid.uuid4()))
    workspace.root.mkdir(mode=0o700, parents=True)
    for directory in (workspace.work, workspace.config, workspace.home, workspace.tmp):
        directory.mkdir(mode=0o700)
    return workspace


def workspaces_in(conversations: Path) -> dict[Workspace, float]:
    """The workspaces below `conversations`, and when each was made; links are none of them."""
    found = {}
    for root in conversations.glob("ws-*"):
        if root.is_dir() and not root.is_symlink():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found[Workspace(id=root.name, root=root, session="")] = root.stat().st_mtime
    return found


class _TooDeepError(Exception):
    pass


def tree_bytes(root: Path) -> int | None:
    """What a directory takes up on the disk with all in it, by blocks and not by length: a file
    with holes counts what is written, one with several names counts once, a link itself. None: its
    agent keeps one from looking, by folders deeper than DEEPEST, say. Blocking. Raises OSError.
    """
    total, linked = 0, set()
    folder = os.open(root, os.O_RDONLY | _FOLDER)
    try:
        for found in _below(folder, DEEPEST):
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if found.st_ino in linked:
                    continue
                linked.add(found.st_ino)
            total += max(found.st_blocks * 512, LEAST_BYTES)
    except (_TooDeepError, PermissionError):
        return None
    finally:
        os.close(folder)
    return total


def _below(folder: int, depth: int) -> Iterator[os.stat_result]:
    """All that lies in an open folder. By descriptors: what its agent moves meanwhile, or puts a
    link in place of, leads nowhere else.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it went meanwhile
                found = entry.stat(follow_symlinks=False)
                yield found
                if stat.S_ISDIR(found.st_mode):
                    if not depth:
                        raise _TooDeepError
                    readable = found.st_mode & stat.S_IRUSR and found.st_mode & stat.S_IXUSR
                    with (_opened if readable else _unlocked)(entry.name, folder) as inner:
                        yield from _below(inner, depth - 1)


@contextlib.contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    inner = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=folder)
    try:
        yield inner
    finally:
        os.close(inner)


@contextlib.contextmanager
def _unlocked(name: str, folder: int) -> Iterator[int]:
    """A folder that its agent shut to itself, and so to us where we are the same user; shut again
    afterwards.
    """
    place = os.open(name, os.O_PATH | _FOLDER, dir_fd=folder)
    try:
        itself, mode = Path(f"/proc/self/fd/{place}"), stat.S_IMODE(os.fstat(place).st_mode)
        itself.chmod(mode | stat.S_IRUSR | stat.S_IXUSR)
        try:
            with _opened(".", place) as inner:
                yield inner
        finally:
            itself.chmod(mode)
    finally:
        os.close(place)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it; links are removed, never followed. Absent is fine.

    Raises OSError where something could not be removed.
    """
    if not shutil.rmtree.avoids_symlink_attacks:
        raise OSError("this platform cannot remove a tree without following links")
    if path.is_symlink():
        path.unlink(missing_ok=True)
        return
    if path.is_dir():
        try:
            shutil.rmtree(path)
        except (OSError, RecursionError):  # it goes down by one call and one descriptor a folder
            _take_back(path)
            shutil.rmtree(path)


def _take_back(path: Path) -> None:
    """Give ourselves all rights to a directory and those in it, as an agent may have taken them
    from its own, and bring up to it what lies deeper than DEEPEST. Links are not followed.
    """
    path.chmod(0o700)
    top = os.open(path, os.O_RDONLY | _FOLDER)
    try:
        deep = ["."]
        while deep:
            with _opened(deep.pop(), top) as folder:
                deep += _brought_up(folder, top, DEEPEST)
    finally:
        os.close(top)


def _brought_up(folder: int, top: int, depth: int) -> list[str]:
    """The new names in `top` of what lay deeper in an open folder. By descriptors, as above."""
    moved: list[str] = []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        place = os.open(name, os.O_PATH | _FOLDER, dir_fd=folder)
        try:
            Path(f"/proc/self/fd/{place}").chmod(0o700)
            if depth:
                with _opened(".", place) as inner:
                    moved += _brought_up(inner, top, depth - 1)
            else:
                moved.append(uuid.uuid4().hex)
                os.rename(name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
        finally:
            os.close(place)
    return moved
