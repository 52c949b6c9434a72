"""The filter, run instruction by instruction: the architecture that is not here is tested too."""

from __future__ import annotations

import errno
import struct

import pytest

from daemon.errors import WallError
from daemon.isolation.seccomp import AUDIT_ARCH, NUMBERS, filter_program

ALLOWED, KILLED = "allowed", "killed"
CONDITIONAL = {
    *("clone", "clone3", "prlimit64", "setpriority", "ioctl", "socket", "socketpair"),
    *("sendto", "sendmsg", "sendmmsg"),
    *("sched_setscheduler", "sched_setparam", "sched_setaffinity", "sched_setattr"),
}


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> str:
    """What the kernel would answer: classic BPF over struct seccomp_data."""
    arguments = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("IIQ6Q", number, arch or AUDIT_ARCH[machine], 0, *arguments)
    program = list(struct.iter_unpack("HBBI", filter_program(machine)))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            kinds = {0x7FFF0000: ALLOWED, 0x80000000: KILLED}
            return kinds.get(value) or errno.errorcode[value & 0xFFFF]
        else:
            tests = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x45: bool(accumulator & value),
            }
            position += if_true if tests[code] else if_false


@pytest.fixture(params=sorted(AUDIT_ARCH))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(machine: str, name: str, *arguments: int) -> str:
    return verdict(machine, NUMBERS[name][list(AUDIT_ARCH).index(machine)], *arguments)


@pytest.mark.parametrize("name", sorted(NUMBERS.keys() - CONDITIONAL))
def test_listed_call_is_refused_whatever_its_arguments(machine: str, name: str) -> None:
    assert call(machine, name) == call(machine, name, 7, 7, 7, 7) == "EPERM"


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "expected"),
    [
        (2, 1, 0, ALLOWED),
        (10, 1, 6, ALLOWED),
        (2, 1 | 0o2000000 | 0o4000, 0, ALLOWED),  # SOCK_CLOEXEC | SOCK_NONBLOCK
        (2, 1, 262, "EPERM"),  # MPTCP
        (2, 1, 132, "EPERM"),  # SCTP
        (2, 2, 0, "EPERM"),  # UDP
        (2, 3, 6, "EPERM"),  # raw
        (1, 1, 0, "EPERM"),  # unix
        (16, 3, 0, "EPERM"),  # netlink
        (40, 1, 0, "EPERM"),  # vsock
        (38, 5, 0, "EPERM"),  # AF_ALG
    ],
)
def test_only_plain_tcp_sockets_are_made(
    machine: str, family: int, kind: int, protocol: int, expected: str
) -> None:
    assert call(machine, "socket", family, kind, protocol) == expected


def test_pairs_are_stream_pairs(machine: str) -> None:
    assert call(machine, "socketpair", 1, 1 | 0o2000000, 0) == ALLOWED
    assert call(machine, "socketpair", 1, 2, 0) == "EPERM"
    assert call(machine, "socketpair", 1, 5, 0) == "EPERM"


def test_fast_open_is_refused_in_all_three_calls(machine: str) -> None:
    fast_open = 0x20000000
    assert call(machine, "sendto", 3, 0, 1, fast_open | 0x4000) == "EPERM"
    assert call(machine, "sendmsg", 3, 0, fast_open) == "EPERM"
    assert call(machine, "sendmmsg", 3, 0, 1, fast_open) == "EPERM"
    assert call(machine, "sendto", 3, 0, 1, 0x4000) == ALLOWED  # MSG_NOSIGNAL


def test_processes_are_made_without_namespaces(machine: str) -> None:
    assert call(machine, "clone", 0x3D0F00) == ALLOWED  # what pthread_create asks
    for namespace in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x2000000):
        assert call(machine, "clone", namespace | 17) == "EPERM"
    assert call(machine, "clone3") == "ENOSYS"


def test_limits_and_priorities_are_ones_own(machine: str) -> None:
    assert call(machine, "prlimit64", 0, 7) == ALLOWED
    assert call(machine, "prlimit64", 4711, 7) == "EPERM"
    assert call(machine, "setpriority", 0, 0, 5) == ALLOWED
    assert call(machine, "setpriority", 0, 4711, 5) == "EPERM"
    assert call(machine, "setpriority", 2, 0, 5) == "EPERM"  # PRIO_USER: all of the uid
    assert call(machine, "sched_setaffinity", 4711) == "EPERM"


def test_terminal_input_is_not_faked(machine: str) -> None:
    assert call(machine, "ioctl", 0, 0x5412) == "EPERM"
    assert call(machine, "ioctl", 0, 0x541C) == "EPERM"
    assert call(machine, "ioctl", 0, 0x5413) == ALLOWED  # TIOCGWINSZ


def test_unknown_calls_do_not_exist_and_foreign_ones_kill(machine: str) -> None:
    assert verdict(machine, 463) == verdict(machine, 9999) == "ENOSYS"
    assert verdict(machine, 0, arch=0x40000003) == KILLED  # i386
    assert verdict(machine, 39) in {ALLOWED, "EPERM"}


def test_x32_numbers_are_refused() -> None:
    assert verdict("x86_64", 0x40000000 | 41, 2, 2, 0) == "EPERM"


def test_unknown_architecture_is_a_wall_error() -> None:
    with pytest.raises(WallError, match="riscv64"):
        filter_program("riscv64")
