"""A user of its own for each conversation: which number is whose, and whose the files are.

The owner of a workspace's directory is the record: it lasts as long as the workspace, survives a
restart, and goes with it. Nothing else is kept. The daemon keeps the rights of root over files: it
reads transcripts, backs up and erases what is another user's, mode 0700 and all.
"""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from daemon.errors import WallError

PASSAGE = 20_000
"""The group of all these users. It may pass through the two folders above the workspaces, and list
neither.
"""
NUMBERS = range(20_001, 59_990)
"""Below 60,000, as Debian keeps what is above, and within what a container's root usually has."""
PROOF_NUMBERS = (59_998, 59_999)
PROCESSES = 512
"""RLIMIT_NPROC of one user; threads count. A CLI at work has about a dozen."""

# linux/capability.h. Root of a plain container has them all; CAP_SYS_PTRACE is not asked for.
NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
WORLD_MAY_PASS, GROUP_MAY_PASS = 0o001, 0o010


def missing(workspaces: Path) -> str:
    """What keeps this daemon from giving its conversations users, in a sentence; "" nothing.
    `workspaces` is the folder that they lie in; it and the one above need not be there yet.
    """
    if lacking := _lacking(_status("CapEff")):
        return f"it needs the capabilities {', '.join(f'CAP_{name}' for name in lacking)}"
    if not _mapped(Path("/proc/self/uid_map").read_text("ascii")):
        return f"it needs user numbers up to {PROOF_NUMBERS[-1]}, which this container has not"
    for folder in workspaces.parent.parents:
        if folder.exists() and not folder.stat().st_mode & WORLD_MAY_PASS:
            return f"other users cannot pass through {folder}, as they must: chmod o+x {folder}"
    return ""


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1], 16)
    return 0


def _lacking(effective: int) -> list[str]:
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def _mapped(uid_map: str) -> bool:
    """Whether one row of user_namespaces(7), "Defining mappings", holds all our numbers."""
    rows = [tuple(map(int, row.split())) for row in uid_map.splitlines()]
    return any(first <= PASSAGE and PROOF_NUMBERS[-1] < first + n for first, _, n in rows)


def reachable(program: Path) -> bool:
    """Whether other users can run it."""
    if not program.exists() or program.stat().st_mode & 0o005 != 0o005:
        return False
    return all(folder.stat().st_mode & WORLD_MAY_PASS for folder in program.parents)


def let_pass(*folders: Path) -> None:
    """Let our users through, though not look around."""
    for folder in folders:
        os.chown(folder, -1, PASSAGE)
        folder.chmod((stat.S_IMODE(folder.stat().st_mode) & ~0o070) | GROUP_MAY_PASS)


def hand_over(root: Path, user: int) -> None:
    """Give a directory and all in it to a user and its group, links themselves and nothing behind
    them; the directory last, as its owner says that all is done. Raises OSError.
    """
    for _, directories, files, descriptor in os.fwalk(root):
        for name in (*directories, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            # A file with two names may have the other one elsewhere: it stays whose it is.
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                os.chown(name, user, user, dir_fd=descriptor, follow_symlinks=False)
    os.chown(root, user, user, follow_symlinks=False)


class Users:
    """Who is whose, among the workspaces that are there."""

    def __init__(self, roots: Iterable[Path], numbers: range = NUMBERS) -> None:
        self._numbers = numbers
        # Of two with one owner (somebody copied a directory) one alone keeps it.
        by_user = {user: root.name for root in roots if (user := owner(root)) in numbers}
        self._users = {name: user for user, name in by_user.items()}
        self._held: dict[str, socket.socket] = {}

    def assign(self, root: Path) -> tuple[int, bool]:
        """The user of this workspace, held until `release`, and whether it is a new one, to whom
        all in it has to be handed over: the workspace is new, comes from a backup, from a time at
        another level, or another daemon of this machine runs something as its former user. Raises
        WallError when all numbers are taken.
        """
        name = root.name
        user = self._users.get(name)
        if user is not None and self._hold(name, user):
            return user, False
        taken = set(self._users.values())
        # From anywhere on: daemons of one machine then hardly ever come to the same number.
        start = secrets.randbelow(len(self._numbers))
        for step in range(len(self._numbers)):
            user = self._numbers[(start + step) % len(self._numbers)]
            if user not in taken and not _known(user) and self._hold(name, user):
                self._users[name] = user
                return user, True
        raise WallError(f"isolation.level: all {len(self._numbers)} users are taken")

    def release(self, root: Path) -> None:
        """Nothing runs as the user of this workspace any more; it stays its user."""
        if (held := self._held.pop(root.name, None)) is not None:
            held.close()

    def forget(self, root: Path) -> None:
        """The workspace is gone, or its handing over failed."""
        self.release(root)
        self._users.pop(root.name, None)

    def _hold(self, name: str, user: int) -> bool:
        """Keep a number from other daemons while something runs under it, as all of a user's
        processes are ended together. An abstract address ends with whoever holds it.
        """
        if name in self._held:
            return True
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0postroom-user-{user}")
        except OSError:
            held.close()
            return False
        self._held[name] = held
        return True


def in_use(workspaces: Path) -> bool:
    """Whether some conversation has had a user of its own. Blocking."""
    return any(owner(root) in NUMBERS for root in workspaces.glob("ws-*"))


def take_back(root: Path) -> None:
    """The other way: a workspace from a time at which it had a user becomes the daemon's own."""
    if owner(root) in NUMBERS:
        hand_over(root, os.geteuid())


def owner(root: Path) -> int:
    """0 for a directory that is not there."""
    try:
        return root.lstat().st_uid
    except FileNotFoundError:
        return 0


def _known(user: int) -> bool:
    """Whether the machine knows somebody by this number."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
