"""Agent processes from outside: who belongs to one, what it weighs, and ending all of it for good.

Everything is read from /proc (proc(5)); a process that vanishes in between is simply gone. Nothing
is signalled by a number alone: pid and start time are checked behind a pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.model import ProcessRef

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
GRACE_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.2
NOT_KILLABLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Stat:
    """What we need of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: int
    resident_pages: int

    @property
    def ref(self) -> ProcessRef:
        return ProcessRef(self.pid, self.start_time)


def read_pid_file(path: Path) -> ProcessRef | None:
    """The process that a launcher recorded; None without one, or when it is from an earlier boot
    of the machine. Says nothing of whether it lives. Files of an earlier version name no user.
    """
    try:
        pid, start_time, boot, *user = path.read_text(encoding="ascii").split()
        ref = ProcessRef(int(pid), int(start_time), int(user[0]) if user else 0)
    except (OSError, ValueError):
        return None
    return ref if boot == _boot() else None


def write_pid_file(path: Path, ref: ProcessRef) -> None:
    """Record a process as launchers do. Raises OSError."""
    path.write_text(f"{ref.pid} {ref.start_time} {_boot()} {ref.user}\n", encoding="ascii")


def running(pid: int) -> ProcessRef | None:
    """The process that has this number now; None: none does."""
    stat = _stat(pid)
    return stat.ref if stat is not None else None


def alive(ref: ProcessRef) -> bool:
    """Whether this very process still runs; a zombie does not."""
    stat = _stat(ref.pid)
    return stat is not None and stat.start_time == ref.start_time


def members(ref: ProcessRef) -> tuple[ProcessRef, ...]:
    """Everything alive that came of a process: itself, its session, its descendants, what carries
    its mark (POSTROOM_PROCESS) in its first environment, and all of its own user, where it has one.
    Blocking, some milliseconds.

    The launcher makes the CLI the reaper of its orphans, so that while it lives a descendant stays
    one whatever it does; after its death session, mark and user find the rest.
    """
    return _members(ref, _snapshot())


def tree_rss_bytes(ref: ProcessRef) -> int:
    """Resident memory of a process and its descendants; 0 when gone. Blocking, about a
    millisecond. Pages that several of them share count for each (PSS costs 10 ms a process).
    """
    if not alive(ref):
        return 0
    pages, waiting = 0, [ref.pid]
    while waiting:
        pid = waiting.pop()
        stat = _stat(pid)
        pages += stat.resident_pages if stat else 0
        waiting += _children(pid)
    return pages * PAGE


async def end(ref: ProcessRef, grace: float = GRACE_SECONDS) -> bool:
    """SIGTERM to all of it, after `grace` seconds SIGKILL; returns when nothing of it is left.

    False: something could not be killed within 10 s (uninterruptible sleep).
    """
    known: set[ProcessRef] = set()
    told: set[ProcessRef] = set()
    start = time.monotonic()
    while True:
        known |= set(await asyncio.to_thread(_gather, ref, frozenset(known)))
        known = {member for member in known if alive(member)}
        if not known:
            return True
        waited = time.monotonic() - start
        if waited > grace + NOT_KILLABLE_SECONDS:
            return False
        if waited >= grace:
            _tell(known, signal.SIGKILL)
        else:
            _tell(known - told, signal.SIGTERM)
            told |= known
        await _wait_until_gone(known, LOOK_AGAIN_SECONDS)


async def sweep(
    directory: Path, *, keep: Callable[[Path], bool] = lambda _: False
) -> tuple[ProcessRef, ...]:
    """End what an earlier daemon left: all of each `*.pid` in a directory. Returns what was found
    alive. Files of ended processes are removed; those for which `keep` holds are left alone.
    """
    recorded, found = await asyncio.to_thread(_look_up, directory, keep)
    ended = await asyncio.gather(*(end(ref) for ref in found.values()))
    stuck = {path for path, gone in zip(found, ended, strict=True) if not gone}
    for path in recorded - stuck:
        path.unlink(missing_ok=True)
    return tuple(found.values())


def _look_up(
    directory: Path, keep: Callable[[Path], bool]
) -> tuple[set[Path], dict[Path, ProcessRef]]:
    """All pid files that may go, and which of them have something alive."""
    recorded = {path for path in directory.glob("*.pid") if not keep(path)}
    refs = {path: ref for path in recorded if (ref := read_pid_file(path))}
    return recorded, {path: ref for path, ref in refs.items() if members(ref)}


def _gather(ref: ProcessRef, known: Iterable[ProcessRef]) -> tuple[ProcessRef, ...]:
    """Members of the process, and descendants of those that were members a moment ago."""
    stats = _snapshot()
    return tuple({*_members(ref, stats), *_descendants(known, stats)})


def _members(ref: ProcessRef, stats: Mapping[int, _Stat]) -> tuple[ProcessRef, ...]:
    leader = stats.get(ref.pid)
    pid_is_anothers = leader is not None and leader.start_time != ref.start_time
    roots = {leader.ref} if leader and not pid_is_anothers else set()
    mark = f"POSTROOM_PROCESS={ref.pid}:{ref.start_time}".encode()
    for stat in stats.values():
        in_session = ref.pid in {stat.session, stat.group} and not pid_is_anothers
        # Nothing of it can be older than itself.
        if stat.start_time >= ref.start_time and (
            in_session or _runs_as(stat, ref.user) or _marked(stat, mark)
        ):
            roots.add(stat.ref)
    return tuple({*roots, *_descendants(roots, stats)})


def _descendants(roots: Iterable[ProcessRef], stats: Mapping[int, _Stat]) -> set[ProcessRef]:
    children: dict[int, list[_Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found: set[ProcessRef] = set()
    waiting = [root for root in roots if root.pid in stats and stats[root.pid].ref == root]
    while waiting:
        for child in children.get(waiting.pop().pid, ()):
            if child.ref not in found:
                found.add(child.ref)
                waiting.append(child.ref)
    return found


def _children(pid: int) -> list[int]:
    """By proc_pid_task_children(5), so that not all of /proc must be read. Each thread has its own
    list; what appears or ends meanwhile may be missed, which a weight can bear.
    """
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def _snapshot() -> dict[int, _Stat]:
    """All processes that are alive, by pid."""
    pids = (int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208  # speed
    return {pid: stat for pid in pids if (stat := _stat(pid))}


def _stat(pid: int) -> _Stat | None:
    """None for a process that is gone, or a zombie: it does nothing any more. (A process whose
    first thread ended while others run shows as a zombie too, with its threads counted.)
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # read by the hundred
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(b")")[2].split()  # from field 3 on: the name may hold anything
    if fields[0] in {b"Z", b"X"} and int(fields[17]) <= 1:
        return None
    parent, group, session = (int(field) for field in fields[1:4])
    return _Stat(pid, parent, group, session, int(fields[19]), int(fields[21]))


def _marked(stat: _Stat, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{stat.pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def _runs_as(stat: _Stat, user: int) -> bool:
    """By the real user in proc_pid_status(5): a process that hides itself (PR_SET_DUMPABLE) has a
    /proc/PID of root's.
    """
    if not user:
        return False
    try:
        status = Path(f"/proc/{stat.pid}/status").read_bytes()
    except OSError:  # gone
        return False
    return f"\nUid:\t{user}\t".encode() in status


def _tell(targets: Iterable[ProcessRef], number: signal.Signals) -> None:
    for ref in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            descriptor = os.pidfd_open(ref.pid)
            try:
                if alive(ref):  # the pidfd was open before this look: it is the same process
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


async def _wait_until_gone(refs: Iterable[ProcessRef], longest: float) -> None:
    """Until all of them are, at most `longest` seconds: new members may appear meanwhile."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline and any(map(alive, refs)):  # noqa: ASYNC110  # no event
        await asyncio.sleep(0.005)


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
