"""The system calls that the walls refuse, assembled into a classic BPF program.

Landlock leaves these open (measured, ABI 7): UDP, MPTCP, TCP Fast Open, unix sockets by path,
netlink, `listen` without `bind`, io_uring, keyrings, user namespaces, System V IPC, inotify, and
the limits and priorities of other processes under the same uid. Refused is EPERM, except where a
library falls back on ENOSYS; a foreign architecture's call kills the process.
Sources: seccomp(2), linux/filter.h, arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping

from daemon.errors import WallError

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

# name: (x86_64, aarch64)
NUMBERS: Mapping[str, tuple[int, int]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "ioprio_set": (251, 30),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone": (56, 220),
    "clone3": (435, 435),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # what is shared by uid, not by directory
    "open_by_handle_at": (304, 265),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # the network, and terminals
    "socket": (41, 198),
    "socketpair": (53, 199),
    "listen": (50, 201),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "ioctl": (16, 29),
}
HIGHEST_KNOWN = 462  # mseal (kernel 6.10): what came later is unknown to this list, hence ENOSYS

LOAD, AND, JUMP_EQUAL, JUMP_ABOVE, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS = 0x7FFF0000, 0x50000, 0x80000000

CLONE_NEW_ANYTHING = 0x7E020000  # NEWNS to NEWNET and NEWCGROUP; NEWTIME exists only in clone3
MSG_FASTOPEN = 0x20000000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
AF_UNIX, AF_INET, AF_INET6, SOCK_STREAM, SOCK_TYPE_MASK, IPPROTO_TCP = 1, 2, 10, 1, 0xF, 6


def filter_program(machine: str | None = None) -> bytes:
    """The whole filter for this architecture, as an array of struct sock_filter.

    Raises WallError on an architecture that no table is here for.
    """
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCH:
        raise WallError(f"isolation: no seccomp table for {machine}; use x86_64 or aarch64")
    column = list(AUDIT_ARCH).index(machine)
    program = [
        _instruction(LOAD, 4),  # seccomp_data.arch
        _instruction(JUMP_EQUAL, AUDIT_ARCH[machine], 1, 0),
        _return(RET_KILL_PROCESS),
        _instruction(LOAD, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":
        program += [_instruction(JUMP_ANY_BIT, X32_BIT, 0, 1), _DENY]
    program += [_instruction(JUMP_ABOVE, HIGHEST_KNOWN, 0, 1), _NOSYS]
    for name, numbers in NUMBERS.items():
        body = _BODIES.get(name, [_DENY])
        program += [_instruction(JUMP_EQUAL, numbers[column], 0, len(body)), *body]
    return b"".join([*program, _ALLOW])


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return _instruction(RETURN, action)


def _argument(index: int) -> bytes:
    """The lower half of an argument: flags, families and pids are ints in the kernel."""
    return _instruction(LOAD, 16 + 8 * index)


_ALLOW, _DENY = _return(RET_ALLOW), _return(RET_ERRNO | errno.EPERM)
_NOSYS = _return(RET_ERRNO | errno.ENOSYS)


def _without_bits(index: int, mask: int) -> list[bytes]:
    return [_argument(index), _instruction(JUMP_ANY_BIT, mask, 0, 1), _DENY, _ALLOW]


def _only_zero(*indexes: int) -> list[bytes]:
    """Zero names the caller itself where a pid is asked for."""
    checks = [[_argument(index), _instruction(JUMP_EQUAL, 0, 1, 0), _DENY] for index in indexes]
    return [*(line for check in checks for line in check), _ALLOW]


_BODIES: Mapping[str, list[bytes]] = {
    "clone": _without_bits(0, CLONE_NEW_ANYTHING),
    "clone3": [_NOSYS],  # its flags are behind a pointer; libc then uses clone
    "prlimit64": _only_zero(0),
    "setpriority": _only_zero(0, 1),
    "sched_setscheduler": _only_zero(0),
    "sched_setparam": _only_zero(0),
    "sched_setaffinity": _only_zero(0),
    "sched_setattr": _only_zero(0),
    "sendto": _without_bits(3, MSG_FASTOPEN),  # Fast Open connects past Landlock's connect hook
    "sendmsg": _without_bits(2, MSG_FASTOPEN),
    "sendmmsg": _without_bits(3, MSG_FASTOPEN),
    "ioctl": [
        _argument(1),
        _instruction(JUMP_EQUAL, TIOCSTI, 1, 0),
        _instruction(JUMP_EQUAL, TIOCLINUX, 0, 1),
        _DENY,
        _ALLOW,
    ],
    # Only plain TCP: Landlock's port rules do not see MPTCP, SCTP or UDP.
    "socket": [
        _argument(0),
        _instruction(JUMP_EQUAL, AF_INET, 2, 0),
        _instruction(JUMP_EQUAL, AF_INET6, 1, 0),
        _DENY,
        _argument(1),
        _instruction(AND, SOCK_TYPE_MASK),
        _instruction(JUMP_EQUAL, SOCK_STREAM, 1, 0),
        _DENY,
        _argument(2),
        _instruction(JUMP_EQUAL, 0, 2, 0),
        _instruction(JUMP_EQUAL, IPPROTO_TCP, 1, 0),
        _DENY,
        _ALLOW,
    ],
    # A pair of datagram sockets could still send to any path; the CLI's pipes are stream pairs.
    "socketpair": [
        _argument(0),
        _instruction(JUMP_EQUAL, AF_UNIX, 1, 0),
        _DENY,
        _argument(1),
        _instruction(AND, SOCK_TYPE_MASK),
        _instruction(JUMP_EQUAL, SOCK_STREAM, 1, 0),
        _DENY,
        _ALLOW,
    ],
}
