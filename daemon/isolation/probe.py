"""The hostile program of the proof: tries each way out of its walls and prints what happened.

Standard library only; run by the launcher in place of the CLI, as `python -I -S probe.py JSON`.
Prints one JSON object: {"tries": {name: "open" | errno name}, "facts": {name: value}}.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
NUMBERS = {
    "ptrace": (101, 117),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "shmget": (29, 194),
    "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
}
PTRACE_SEIZE, KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, CLONE_NEWUSER = 0x4206, 0, -3, 0x10000000
IN_CREATE, IPC_CREAT_0600 = 0x100, 0o1600
IPPROTO_MPTCP, MSG_FASTOPEN = 262, 0x20000000
PR_GET_PDEATHSIG, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS = 2, 21, 39
CAPABILITY_VERSION_3 = 0x20080522


def main(config: dict[str, Any]) -> None:
    found = facts(config)  # first: what a try leaves open is not what the launcher left open
    tries = {**own_directory(config), **files(config), **processes(config), **network(config)}
    tries |= kernel()
    results = {name: attempt(action) for name, action in tries.items()}
    print(json.dumps({"tries": results, "facts": found}))  # noqa: T201  # its whole purpose


Try = Callable[[], object]


def attempt(action: Try) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "open"


def own_directory(config: dict[str, Any]) -> dict[str, Try]:
    """What must work."""
    work = Path(config["work"])
    return {
        "write and read the own workspace": lambda: read_back(work / "note"),
        "speak with the granted port": lambda: speak(config["granted_port"]),
        "run a program": lambda: run("/bin/sh", "-c", "exit 0"),
        "open the CLI": lambda: os.close(os.open(config["cli"], os.O_RDONLY)),
    }


def files(config: dict[str, Any]) -> dict[str, Try]:
    work, other = Path(config["work"]), Path(config["other"])
    secret = other / "work" / "secret"
    return {
        "read another conversation's file": secret.read_text,
        "write another conversation's file": lambda: (other / "work" / "mine").write_text("x"),
        "list another conversation's directory": lambda: list((other / "work").iterdir()),
        "delete another conversation's file": (other / "work" / "doomed").unlink,
        "take another conversation's file by rename": lambda: (other / "work" / "movable").rename(
            work / "taken"
        ),
        "reach it through a symbolic link": lambda: through(os.symlink, secret, work / "soft"),
        "reach it through a hard link": lambda: through(os.link, secret, work / "hard"),
        "watch another conversation's directory": lambda: watch(other / "work"),
        "read another conversation's transcript": (other / "config" / "transcript").read_text,
        "read the ledger": Path(config["ledger"]).read_bytes,
        "put a file beside the ledger": lambda: Path(config["ledger"] + ".new").write_text("x"),
        "read the own plan": Path(config["plan"]).read_bytes,
        "write the system's temporary directory": lambda: read_back(Path(config["shared"])),
    }


def processes(config: dict[str, Any]) -> dict[str, Try]:
    daemon = int(config["daemon"])
    return {
        "read the daemon's environment": Path(f"/proc/{daemon}/environ").read_bytes,
        "list processes": lambda: list(Path("/proc").iterdir()),
        "signal the daemon": lambda: os.kill(daemon, 0),
        "trace the daemon": lambda: syscall("ptrace", PTRACE_SEIZE, daemon, 0, 0),
        "take a descriptor of the daemon": lambda: take_descriptor(daemon),
        "read the daemon's limits": lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE),
        "set the daemon's priority": lambda: os.setpriority(
            os.PRIO_PROCESS, daemon, os.getpriority(os.PRIO_PROCESS, daemon)
        ),
    }


def network(config: dict[str, Any]) -> dict[str, Try]:
    port = int(config["other_port"])
    stream, datagram, inet = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_INET
    return {
        "connect to another port": lambda: connect(port),
        "connect to another port over IPv6": lambda: connect_to(
            socket.AF_INET6, stream, 0, ("::ffff:127.0.0.1", port)
        ),
        "connect by MPTCP": lambda: connect_to(inet, stream, IPPROTO_MPTCP, ("127.0.0.1", port)),
        "connect by TCP Fast Open": lambda: send_to(
            inet, stream, ("127.0.0.1", port), MSG_FASTOPEN
        ),
        "bind a TCP port": lambda: bind(("127.0.0.1", 0)),
        "listen without binding": listen,
        "send UDP": lambda: send_to(inet, datagram, ("127.0.0.1", config["udp_port"]), 0),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "connect to a unix socket by path": lambda: connect_to(
            socket.AF_UNIX, stream, 0, config["unix_stream"]
        ),
        "connect to an abstract unix socket": lambda: connect_to(
            socket.AF_UNIX, stream, 0, "\0" + config["unix_abstract"]
        ),
        "send a unix datagram from a pair": lambda: pair_to(config["unix_datagram"]),
    }


def kernel() -> dict[str, Try]:
    return {
        "set up io_uring": lambda: syscall("io_uring_setup", 4, ctypes.create_string_buffer(120)),
        "use a keyring": lambda: syscall("keyctl", KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 0),
        "make shared memory": lambda: syscall("shmget", os.getpid(), 4096, IPC_CREAT_0600),
        "make a user namespace": make_user_namespace,
    }


def facts(config: dict[str, Any]) -> dict[str, Any]:
    death_signal = ctypes.c_int()
    LIBC.prctl(PR_GET_PDEATHSIG, ctypes.byref(death_signal), 0, 0, 0)
    return {
        "environment": dict(os.environ),
        "descriptors": [number for number in range(256) if is_open(number)],
        "capabilities": capabilities(),
        "no_new_privs": LIBC.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        "seccomp": LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0),
        "death_signal": death_signal.value,
        "leads_its_session": os.getsid(0) == os.getpid() == os.getpgrp(),
        "users": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "others": attempt(Path(config["other"], "work", "secret").stat),
        "process_limit": resource.getrlimit(resource.RLIMIT_NPROC)[1],
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "the gateway's port elsewhere": attempt(
            lambda: connect_to(
                socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.2", config["granted_port"])
            )
        ),
        "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "umask": os.umask(0o077),
        "directory": os.getcwd(),  # noqa: PTH109
    }


def syscall(name: str, *arguments: int | ctypes.Array[ctypes.c_char] | bytes) -> int:
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = LIBC.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def read_back(path: Path) -> None:
    path.write_text("mine")
    path.read_text()


def run(*command: str) -> None:
    _, status = os.waitpid(os.posix_spawn(command[0], command, {}), 0)
    if status:
        raise OSError(errno.ECHILD, "it failed")


def through(make: Callable[[Path, Path], None], target: Path, link: Path) -> None:
    make(target, link)
    link.read_text()


def watch(directory: Path) -> None:
    descriptor = syscall("inotify_init1", 0)
    try:
        syscall("inotify_add_watch", descriptor, os.fsencode(directory), IN_CREATE)
    finally:
        os.close(descriptor)


def take_descriptor(pid: int) -> None:
    process = syscall("pidfd_open", pid, 0)
    try:
        os.close(syscall("pidfd_getfd", process, 0, 0))
    finally:
        os.close(process)


def speak(port: int) -> None:
    """To whatever understands a request of HTTP."""
    with socket.socket() as connection:
        connection.settimeout(5.0)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not connection.recv(1):
            raise OSError(errno.ECONNRESET, "it says nothing")


def connect(port: int) -> None:
    connect_to(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", port))


def connect_to(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as connection:
        connection.settimeout(2.0)
        connection.connect(address)


def send_to(family: int, kind: int, address: Any, flags: int) -> None:
    with socket.socket(family, kind) as connection:
        connection.sendto(b"x", flags, address)


def bind(address: Any) -> None:
    with socket.socket() as listener:
        listener.bind(address)


def listen() -> None:
    """The kernel then picks a port by itself; Landlock's bind hook is not asked."""
    with socket.socket() as listener:
        listener.listen(1)


def pair_to(path: str) -> None:
    """A datagram socket from a pair may still send to any path."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"x", path)


def make_user_namespace() -> None:
    """In a child: unshare must not change what the later tries see."""
    child = os.fork()
    if not child:
        try:
            syscall("unshare", CLONE_NEWUSER)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(abs(status), "unshare")


def capabilities() -> int:
    """The permitted set as a number."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    LIBC.capget(header, data)
    return data[1] | data[4] << 32


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    signal.alarm(8)
    main(json.loads(sys.argv[1]))
