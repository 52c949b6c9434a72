"""How the attacks of the matrix are done: system calls, children, files. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from daemon.isolation import probe
from daemon.isolation.seccomp import NUMBERS

COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
NAME_TO_HANDLE_AT = (303, 264)[COLUMN]  # the filter leaves it alone, so its table has it not
CLONE_NEWUSER, CLONE_NEWNS, SIGCHLD = 0x10000000, 0x20000, 17
MS_REC_PRIVATE, MNT_DETACH, AT_FDCWD = 0x4000 | 0x40000, 2, -100
FORKS = 600
"""More than a conversation may have where its processes are counted, few enough for any machine."""
BIGGEST_FILE = 3 << 30
"""Bytes, beyond a plan's FSIZE; the file is sparse."""


def call(name: str, *arguments: Any) -> int:
    """A system call that the filter knows by name. Raises OSError."""
    return raw(NUMBERS[name][COLUMN], *arguments)


def raw(number: int, *arguments: Any) -> int:
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = probe.LIBC.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def numbers(*values: int) -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * len(values))(*values)


def in_a_child(action: Callable[[], object]) -> None:
    """What it does must not change what the later attacks see. Raises OSError with what it met;
    EPERM where it was killed for a system call, ENOSYS for any other death.
    """
    child = os.fork()
    if not child:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 255)
        except BaseException:  # noqa: BLE001  # a child never returns into the program
            os._exit(255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise OSError(errno.EPERM if status == -signal.SIGSYS else errno.ENOSYS, "it was killed")
    if status:
        raise OSError(status, "in a child")


def refuse_unless(holds: bool) -> None:
    if not holds:
        raise OSError(errno.EPERM, "not so")


# --- reading what is another's --------------------------------------------------------------------


def find(canary: bytes, paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            if canary in path.read_bytes():
                return
    raise OSError(errno.ENODATA, "nothing found")


def read_at(path: str, address: int) -> None:
    with open(path, "rb", buffering=0) as memory:  # noqa: PTH123
        memory.seek(address)
        memory.read(8)


def read_memory(pid: int, address: int, length: int = 8) -> None:
    """process_vm_readv(2); both vectors are one struct iovec."""
    here = ctypes.create_string_buffer(length)
    into = (ctypes.c_uint64 * 2)(ctypes.addressof(here), length)
    source = (ctypes.c_uint64 * 2)(address, length)
    call("process_vm_readv", pid, into, 1, source, 1, 0)


def through_a_folder(folder: Path, link: Path) -> None:
    link.symlink_to(folder)
    (link / "secret").read_text()


def open_by_handle(path: Path, own: Path) -> None:
    """name_to_handle_at and open_by_handle_at(2): a file without its path, past every directory."""
    size = 128
    handle = ctypes.create_string_buffer(size.to_bytes(4, sys.byteorder) + bytes(4 + size))
    mount_id = ctypes.c_int()
    raw(NAME_TO_HANDLE_AT, AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount_id), 0)
    folder = os.open(own, os.O_RDONLY)  # any on the same file system will do
    try:
        os.close(call("open_by_handle_at", folder, handle, os.O_RDONLY))
    finally:
        os.close(folder)


# --- writing what is another's --------------------------------------------------------------------


def open_for_writing(path: str) -> None:
    """Nothing is written."""
    os.close(os.open(path, os.O_WRONLY))


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("forged\n")


def leave(path: Path) -> None:
    path.write_text("for the next one")
    path.unlink()


# --- the network and the kernel -------------------------------------------------------------------


def fast_open_message(port: int) -> None:
    with socket.socket() as connection:
        connection.sendmsg([b"x"], [], probe.MSG_FASTOPEN, ("127.0.0.1", port))


def clone_into_a_namespace(name: str) -> None:
    """As fork does: the child goes on from here, and ends."""
    if name == "clone":
        child = call("clone", CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    else:  # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, size, tls
        child = call("clone3", (ctypes.c_uint64 * 8)(CLONE_NEWUSER, 0, 0, 0, SIGCHLD), 64)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def enter_a_namespace() -> None:
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        call("setns", descriptor, 0)
    finally:
        os.close(descriptor)


def mount(point: Path) -> None:
    """In a child, and where it may in a mount namespace of its own: nothing stays mounted."""
    point.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):  # mounting itself is what is tried
        call("unshare", CLONE_NEWNS)
        call("mount", None, b"/", None, MS_REC_PRIVATE, None)
    call("mount", b"none", os.fsencode(point), b"tmpfs", 0, None)
    call("umount2", os.fsencode(point), MNT_DETACH)


def make_a_message_queue() -> None:
    name = f"postroom-escape-{os.getpid()}".encode()
    os.close(call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None))
    call("mq_unlink", name)


def call_as_i386() -> None:
    """getpid by `int 0x80`: a number of another architecture, which a filter must not take for its
    own. Machine code: mov eax, 20; int 0x80; ret.
    """
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "only there is another one at hand")
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    refuse_unless(function() == os.getpid())


# --- resources ------------------------------------------------------------------------------------


def fork_bomb() -> None:
    children: list[int] = []
    try:
        for _ in range(FORKS):
            child = os.fork()
            if not child:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def write_big(path: Path) -> None:
    """With the limit taken away first, which who has privileges may do."""
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    try:
        with path.open("wb") as file:
            file.truncate(BIGGEST_FILE)
    finally:
        path.unlink(missing_ok=True)


def raise_limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    except ValueError as error:  # what Python makes of EPERM
        raise OSError(errno.EPERM, str(error)) from error
