"""The levels of isolation, and what this machine must have for each.

A level is one row: a later one (bubblewrap) adds its row, its needs and its walls. Whether a level
really holds here is not asked of a version number: `proof.py` tries it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import WallError
from daemon.isolation import landlock, users
from daemon.isolation.seccomp import AUDIT_ARCH
from daemon.isolation.walls import Grants, Pairs, landlock_walls, no_walls


@dataclass(frozen=True, slots=True)
class Level:
    """One way to isolate. `strength` orders `auto`; 0 is never chosen by it.

    `missing` says in a sentence what this machine lacks for workspaces in the folder that it is
    given, "" when nothing. With `own_users` each conversation has a user of its own. `gaps` are the
    ways out that the level is known to leave open, for `doctor` and the documentation.
    """

    name: str
    strength: int
    walls: Callable[[Grants], Pairs]
    missing: Callable[[Path], str]
    own_users: bool = False
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
    )
}


def lacks(level: Level, workspaces: Path, cli: Path | None) -> str:
    """What this machine lacks for a level, with the CLI that is to be run there; "" nothing."""
    missing = level.missing(workspaces)
    if not missing and level.own_users and cli is not None and not users.reachable(cli):
        return f"other users cannot run {cli}, as they must: set up where they can pass"
    return missing


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
    for level in candidates(requested):
        missing = level.missing(workspaces)
        if not missing:
            return level
        reasons.append(f"{level.name}: {missing}")
    raise WallError(f"isolation.level = {requested!r}: no wall here ({'; '.join(reasons)})")
