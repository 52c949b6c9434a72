"""A conversation's directories on disk: made, and removed without following what an agent left."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from daemon.model import Workspace


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
        except PermissionError:
            _take_back(path)
            shutil.rmtree(path)


def _take_back(path: Path) -> None:
    """Give ourselves all rights to a directory and those in it, as an agent may have taken them
    from its own. Links are not followed.
    """
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            waiting += [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
