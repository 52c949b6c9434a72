"""What Landlock can do on this kernel, and a ruleset in the form that the launcher applies.

Sources: linux/landlock.h, landlock(7). Measured on ABI 7 (kernel 6.18).
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

LANDLOCK_CREATE_RULESET = 444
CREATE_RULESET_VERSION = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR

BIND_AND_CONNECT = 3  # handled: both; granted: connect alone, by the launcher
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1, 2

NEEDED_ABI = 6
"""4 brought TCP rules (kernel 6.7); 6 signals and abstract sockets (6.12). Without the latter a
tool could kill the daemon under whose uid it runs.
"""


def landlock_abi() -> int:
    """The kernel's Landlock ABI; 0 when there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(LANDLOCK_CREATE_RULESET)
    version: int = libc.syscall(
        number, None, ctypes.c_long(0), ctypes.c_long(CREATE_RULESET_VERSION)
    )
    return max(version, 0)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """`attributes` is struct landlock_ruleset_attr; `every` all file rights that it handles."""

    attributes: bytes
    every: int

    @property
    def on_plain_files(self) -> int:
        """The rights that are legal in a rule on something that is no directory."""
        return self.every & (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)

    @property
    def device(self) -> int:
        return self.every & (WRITE_FILE | READ_FILE | IOCTL_DEV)


def ruleset(*, signals: bool = True) -> Ruleset:
    """Handle every file right, TCP bind and connect, abstract sockets and signals (ABI 6)."""
    every = (1 << 16) - 1
    scopes = SCOPE_ABSTRACT_UNIX | (SCOPE_SIGNAL if signals else 0)
    return Ruleset(struct.pack("QQQ", every, BIND_AND_CONNECT, scopes), every)
