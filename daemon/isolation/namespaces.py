"""What an agent sees within namespaces of its own: bubblewrap's arguments; and if it works here.

Within there are its own directories, the system's programs, five devices and a /proc of its own;
a loopback with nothing on it but what the launcher listens on; none of the machine's processes.
Sources: bwrap(1), user_namespaces(7); measured with bubblewrap 0.8.0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from daemon.isolation import users
from daemon.isolation.walls import DEVICES, SYSTEM_READ_ONLY, Grants

OWN_PYTHON = Path(sys.executable).resolve()
HOST = "postroom"
FIRST_PID = 2  # the first is bubblewrap's own
INSIDE = "/run/postroom"  # where the launcher and its plan lie there
PLAN_NUMBER, PROGRAM_NUMBER = 10, 11
"""The descriptors from which bubblewrap copies these two: a user may not read the originals."""
TRIAL_SECONDS = 10.0

NAMESPACES = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
    *("--unshare-cgroup-try", "--hostname", HOST, "--die-with-parent", "--cap-drop", "ALL"),
)


def missing() -> str:
    """What keeps this machine from making namespaces, in a sentence; "" nothing. Blocking, some
    milliseconds: it is tried, as nothing else tells (kernels, containers and security modules
    forbid it each in their own way).
    """
    if (bwrap := _bwrap()) is None:
        return "it needs bubblewrap (on Debian: apt-get install bubblewrap)"
    # Without the rights of root, which an agent has not either.
    user = users.PROOF_NUMBERS[0] if os.geteuid() == 0 else None
    command = (bwrap, *NAMESPACES, *("--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/true"))
    try:
        tried = subprocess.run(  # noqa: S603  # our own words
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_SECONDS,
            env={},
            user=user,
            group=user,
            extra_groups=() if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"it cannot be tried: {error}"
    if tried.returncode:
        return (
            f"this machine refuses namespaces ({tried.stderr.strip()[:200] or 'it says nothing'})"
        )
    return ""


def python(*, for_others: bool) -> Path:
    """Our interpreter, without its virtual environment. Where other users have to run it and cannot
    the system's, whose libraries all may read; ours as well where there is none.
    """
    if not for_others:
        return OWN_PYTHON
    choice = (OWN_PYTHON, Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
    return next((path for path in choice if users.reachable(path.resolve())), OWN_PYTHON)


def libraries(interpreter: Path) -> tuple[Path, ...]:
    """What it needs beside the system's."""
    return (Path(sys.base_prefix), Path(sys.base_exec_prefix)) if interpreter == OWN_PYTHON else ()


def bubblewrap(grants: Grants, interpreter: Path) -> list[str]:
    """The command by which the interpreter runs the launcher again within. Raises FileNotFoundError
    where bubblewrap has gone meanwhile.
    """
    if (bwrap := _bwrap()) is None:
        raise FileNotFoundError("bubblewrap is not there any more")
    # What was compiled by another Python is nothing to the system's.
    program = f"{INSIDE}/launcher{'.pyc' if interpreter == OWN_PYTHON else '.py'}"
    system = [Path(path) for path in SYSTEM_READ_ONLY]
    needed = (*grants.read_only, interpreter, *libraries(interpreter))
    everywhere = {*needed, *(path.resolve() for path in needed)}
    # Those above come first: a mount hides what was mounted below its place before.
    read_only = sorted(path for path in everywhere if not _within(path, system))
    return [
        *(bwrap, *NAMESPACES),
        *_mounts("--ro-bind-try", system),
        *_mounts("--dev-bind-try", map(Path, DEVICES)),
        *("--proc", "/proc", *_links()),
        *_mounts("--ro-bind", read_only),
        *_mounts("--bind", grants.read_write),
        *("--ro-bind-data", str(PLAN_NUMBER), f"{INSIDE}/plan"),
        *("--ro-bind-data", str(PROGRAM_NUMBER), program),
        *("--remount-ro", "/", "--"),
        *(str(interpreter), "-I", "-S", program, f"{INSIDE}/plan"),
    ]


def _bwrap() -> str | None:
    return shutil.which("bwrap")


def _mounts(how: str, paths: Iterable[Path]) -> list[str]:
    return [word for path in paths for word in (how, str(path), str(path))]


def _links() -> list[str]:
    """The names that shells and programs know their descriptors by."""
    names = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
    pairs = ((f"/proc/self/fd{number}", f"/dev/{name}") for name, number in names.items())
    return [word for target, link in pairs for word in ("--symlink", target, link)]


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
