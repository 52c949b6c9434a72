"""The daemon's memory holds every secret: it is kept from other processes, and from the disk."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterable

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_memory() -> None:
    """From now on no process without privileges can read this one's memory or first environment,
    or attach to it (prctl(2), PR_SET_DUMPABLE), and no crash leaves a core. What is started from
    here is as it would have been: execve undoes the first. Raises OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wipe_environment(names: Iterable[str]) -> None:
    """Overwrite these variables where the kernel put them: taking them out of `os.environ` alone
    leaves their text in memory, and in /proc/PID/environ (proc(5)). They must be there still.
    """
    wanted = {os.fsencode(name) for name in names}
    entries = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    number = 0
    while address := entries[number]:
        entry = ctypes.string_at(address)
        name, _, text = entry.partition(b"=")
        if name in wanted:
            ctypes.memset(address + len(name) + 1, 0, len(text))
        number += 1
