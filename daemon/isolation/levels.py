"""The levels of isolation, and what this machine must have for each.

A level is one row: its needs, its walls, what they are put up within, and what the proof is to see
of it. Whether it really holds here is not asked of a version number: `proof.py` tries it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon.errors import WallError
from daemon.isolation import landlock, namespaces, users
from daemon.isolation.seccomp import AUDIT_ARCH
from daemon.isolation.walls import Grants, Pairs, landlock_walls, no_walls


@dataclass(frozen=True, slots=True)
class Level:
    """One way to isolate. `strength` orders `auto`; 0 is never chosen by it.

    `missing` says in a sentence what this machine lacks for workspaces in the folder that it is
    given, "" when nothing. With `own_users` each conversation has a user of its own; a level that
    `takes_users` has that wherever the daemon may change users (`fitted`). `gaps` are the ways out
    that the level is known to leave open, for `doctor` and the documentation.

    `wrapper` gives the command by which an interpreter runs the launcher once more, within, to put
    up the walls there. What lies outside is not there: `hides` are the errors that show it, `sees`
    is what the proof has to find beside (facts of `probe.py`).
    """

    name: str
    strength: int
    walls: Callable[[Grants], Pairs]
    missing: Callable[[Path], str]
    own_users: bool = False
    takes_users: bool = False
    wrapper: Callable[[Grants, Path], list[str]] | None = None
    hides: frozenset[str] = frozenset()
    sees: Mapping[str, object] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


def _landlock_misses(_workspaces: Path) -> str:
    if sys.platform != "linux" or platform.machine() not in AUDIT_ARCH:
        return f"it needs Linux on x86_64 or aarch64; this is {sys.platform} {platform.machine()}"
    abi = landlock.landlock_abi()
    if abi < landlock.NEEDED_ABI:
        return (
            f"it needs Landlock ABI {landlock.NEEDED_ABI} (Linux 6.12 or newer, with `landlock` "
            f"among its security modules); this kernel ({platform.release()}) has {abi or 'none'}"
        )
    return ""


def _users_miss(workspaces: Path) -> str:
    return _landlock_misses(workspaces) or users.missing(workspaces)


def _namespaces_miss(workspaces: Path) -> str:
    missing = _landlock_misses(workspaces) or namespaces.missing()
    if not missing and os.geteuid() == 0 and (why := users.missing(workspaces)):
        # The kernel takes root's own number into no namespace of somebody without privileges.
        return f"a daemon that is root needs users for it, as the level uid does: {why}"
    return missing


_PORTS = (
    "TCP to the port numbers of the gateway and, for a profile with egress, of its proxy on any "
    "host, as Landlock has no addresses"
)

LEVELS: Mapping[str, Level] = {
    level.name: level
    for level in (
        Level("none", 0, no_walls, lambda _: "", gaps=("everything",)),
        Level(
            "landlock",
            10,
            landlock_walls,
            _landlock_misses,
            gaps=(
                _PORTS,
                "names, sizes and modes of files under the same uid (stat, chmod, utime)",
                "numbers of processes, memory (the pool recycles large trees) and disk space",
                "one shared kernel",
            ),
        ),
        Level(
            "uid",
            20,
            landlock_walls,
            _users_miss,
            own_users=True,
            gaps=(
                _PORTS,
                "memory (the pool recycles large trees) and disk space",
                "one shared kernel",
            ),
        ),
        Level(
            "bwrap",
            30,
            landlock_walls,
            _namespaces_miss,
            takes_users=True,
            wrapper=namespaces.bubblewrap,
            hides=frozenset({"ENOENT", "EROFS", "ESRCH", "ECONNREFUSED"}),
            sees={
                "pid": namespaces.FIRST_PID,
                "host": namespaces.HOST,
                "others": "ENOENT",
                "the gateway's port elsewhere": "ECONNREFUSED",
            },
            gaps=(
                "memory (the pool recycles large trees) and disk space",
                "one shared kernel",
            ),
        ),
    )
}


def fitted(level: Level, workspaces: Path) -> Level:
    """The level as this machine can have it."""
    if level.takes_users and not users.missing(workspaces):
        return replace(level, own_users=True)
    return level


def lacks(level: Level, workspaces: Path, cli: Path | None) -> str:
    """What this machine lacks for a level, with the CLI that is to be run there; "" nothing.
    Blocking, some milliseconds.
    """
    missing = level.missing(workspaces)
    if missing or not level.own_users:
        return missing
    for program in (cli, namespaces.python(for_others=True) if level.wrapper else None):
        if program is not None and not users.reachable(program):
            return f"other users cannot run {program}, as they must: set up where they can pass"
    return ""


def candidates(requested: str, levels: Mapping[str, Level] = LEVELS) -> tuple[Level, ...]:
    """The levels to try, strongest first: for `auto` all with walls, else the one named.

    Raises WallError for a level that this version has not.
    """
    if requested == "auto":
        walled = (level for level in levels.values() if level.strength)
        return tuple(sorted(walled, key=lambda level: -level.strength))
    if requested not in levels:
        raise WallError(f"isolation.level: {requested!r} is none of auto, {', '.join(levels)}")
    return (levels[requested],)


def available_level(requested: str, workspaces: Path) -> Level:
    """The strongest candidate that this machine has what it takes for; not proven yet.

    Raises WallError with a sentence for the operator. `auto` never falls to `none`.
    """
    reasons = []
    for candidate in candidates(requested):
        level = fitted(candidate, workspaces)
        missing = level.missing(workspaces)
        if not missing:
            return level
        reasons.append(f"{level.name}: {missing}")
    raise WallError(f"isolation.level = {requested!r}: no wall here ({'; '.join(reasons)})")
