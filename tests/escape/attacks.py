"""The hostile program of the matrix: every attack that it knows, one after the other.

The CLI's own Bash runs it as `python3 -S -m tests.escape.attacks TARGETS`, from a copy of the few
modules that it imports; standard library only. Prints {heading: {attack: what came of it}}, where
"open" means that the attack did what it was to do, and anything else names what kept it. How each
is done stands in means.py; what the proof tries, in the daemon's probe.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from daemon.isolation import probe
from daemon.isolation.probe import Try
from tests.escape import means
from tests.escape.plants import plant

Targets = Mapping[str, Any]

METADATA = ("169.254.169.254", 80)
AF_VSOCK, AF_ALG, ETH_P_ALL = 40, 38, 0x300
BPF_MAP_CREATE, BPF_MAP_TYPE_ARRAY, PERF_TYPE_SOFTWARE = 0, 2, 1
IPC_PRIVATE, IPC_RMID, KEY_SPEC_THREAD_KEYRING = 0, 0, -1


def main(targets: dict[str, Any]) -> None:
    headings: dict[str, dict[str, Try]] = {
        "must work": probe.own_directory(targets),
        "S1 secrets": secrets(targets),
        "S2 the daemon": {**probe.processes(targets), **daemon(targets)},
        "S3 files": {**probe.files(targets), **files(targets)},
        "S4 ways out": {**probe.network(targets), **network(targets)},
        "S8 the kernel": {**probe.kernel(), **kernel(targets), **privileges()},
        "S9 resources": resources(targets),
    }
    found = {
        heading: {name: probe.attempt(action) for name, action in attacks.items()}
        for heading, attacks in headings.items()
    }
    plant(targets)
    print(json.dumps(found))


def secrets(targets: Targets) -> dict[str, Try]:
    canary = "".join(targets["canary"]).encode()  # in halves: these targets are not the find
    return {
        "find the key in a process's environment": lambda: means.find(canary, environments()),
        "find the key in a file of the daemon's": lambda: means.find(
            canary, files_below(targets["data"])
        ),
        "read the daemon's configuration": Path(targets["config"]).read_bytes,
    }


def environments() -> Iterator[Path]:
    return (folder / "environ" for folder in Path("/proc").iterdir() if folder.name.isdigit())


def files_below(top: str) -> Iterator[Path]:
    for folder, _, names in os.walk(top):
        yield from (Path(folder, name) for name in names)


def daemon(targets: Targets) -> dict[str, Try]:
    pid, address = int(targets["daemon"]), int(targets["canary_address"])
    return {
        "read the daemon's command line": Path(f"/proc/{pid}/cmdline").read_bytes,
        "read the daemon's memory through /proc": lambda: means.read_at(
            f"/proc/{pid}/mem", address
        ),
        "read the daemon's memory by a system call": lambda: means.read_memory(pid, address),
        "read the daemon's memory map": Path(f"/proc/{pid}/maps").read_bytes,
        "list the daemon's open files": lambda: list(Path(f"/proc/{pid}/fd").iterdir()),
        "move the daemon to another processor": lambda: os.sched_setaffinity(
            pid, os.sched_getaffinity(0)
        ),
        "signal the daemon by a pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0),
        "rewrite the own plan": lambda: means.open_for_writing(targets["plan"]),
    }


def files(targets: Targets) -> dict[str, Try]:
    work, other = Path(targets["work"]), Path(targets["other"])
    secret = other / "work" / "secret"
    return {
        "reach it through a linked directory": lambda: means.through_a_folder(
            other / "work", work / "linked"
        ),
        "reach it by a path with dots": Path(f"{work}/../../{other.name}/work/secret").read_text,
        "reach it through the daemon's root": Path(
            f"/proc/{targets['daemon']}/root{secret}"
        ).read_text,
        "reach it by a file handle": lambda: means.open_by_handle(secret, work),
        "add to another conversation's transcript": lambda: means.append(
            other / "config" / "transcript"
        ),
        "see the size of another conversation's file": secret.stat,
        "change the mode of another conversation's file": lambda: secret.chmod(0o640),
        "write to shared memory": lambda: means.leave(
            Path(f"/dev/shm/postroom-escape-{os.getpid()}")  # noqa: S108
        ),
        "rewrite a program of the system": lambda: means.open_for_writing(targets["program"]),
        "set the kernel": lambda: means.open_for_writing("/proc/sys/kernel/core_pattern"),
        "read the kernel's log": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    }


def network(targets: Targets) -> dict[str, Try]:
    port, inet, stream = int(targets["other_port"]), socket.AF_INET, socket.SOCK_STREAM
    return {
        "connect to the gateway's port on another address": lambda: probe.connect_to(
            inet, stream, 0, ("127.0.0.2", targets["granted_port"])
        ),
        "connect to another port on ::1": lambda: probe.connect_to(
            socket.AF_INET6, stream, 0, ("::1", targets["port_on_ipv6"])
        ),
        "connect by TCP Fast Open in sendmsg": lambda: means.fast_open_message(port),
        "connect to a cloud's metadata address": lambda: probe.connect_to(
            inet, stream, 0, METADATA
        ),
        "open a raw socket": lambda: socket.socket(inet, socket.SOCK_RAW, 1).close(),
        "open a packet socket": lambda: socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, ETH_P_ALL
        ).close(),
        "open a socket to a virtual machine's host": lambda: socket.socket(
            AF_VSOCK, stream
        ).close(),
        "open a socket to the kernel's ciphers": lambda: socket.socket(
            AF_ALG, socket.SOCK_SEQPACKET
        ).close(),
    }


def kernel(targets: Targets) -> dict[str, Try]:
    work = Path(targets["work"])
    return {
        "clone into a user namespace": lambda: means.clone_into_a_namespace("clone"),
        "clone into a user namespace by clone3": lambda: means.clone_into_a_namespace("clone3"),
        "enter a namespace": means.enter_a_namespace,
        "mount a file system": lambda: means.in_a_child(lambda: means.mount(work / "mounted")),
        "change the root": lambda: means.in_a_child(lambda: os.chroot(work)),
        "make a BPF map": lambda: os.close(
            means.call("bpf", BPF_MAP_CREATE, means.numbers(BPF_MAP_TYPE_ARRAY, 4, 8, 1), 16)
        ),
        "count the processor's events": lambda: os.close(
            means.call(
                "perf_event_open", means.numbers(PERF_TYPE_SOFTWARE, 64, *[0] * 14), 0, -1, -1, 0
            )
        ),
        "handle page faults": lambda: os.close(means.call("userfaultfd", 0)),
        "watch the whole file system": lambda: os.close(means.call("fanotify_init", 0, 0)),
        "add a key to a keyring": lambda: means.call(
            "add_key", b"user", b"postroom-escape", b"x", 1, KEY_SPEC_THREAD_KEYRING
        ),
        "make a message queue": means.make_a_message_queue,
        "make a semaphore": lambda: means.call(
            "semctl", means.call("semget", IPC_PRIVATE, 1, 0o600), 0, IPC_RMID
        ),
        "call as another architecture": lambda: means.in_a_child(means.call_as_i386),
        "call by an x32 number": lambda: means.raw(0x40000000 | 39),
    }


def privileges() -> dict[str, Try]:
    return {
        "hold a capability": lambda: means.refuse_unless(probe.capabilities() != 0),
        "gain privileges by a set-uid program": lambda: means.refuse_unless(
            probe.LIBC.prctl(probe.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0
        ),
    }


def resources(targets: Targets) -> dict[str, Try]:
    return {
        f"start {means.FORKS} processes": means.fork_bomb,
        "write a file of 3 GiB": lambda: means.write_big(Path(targets["work"]) / "big"),
        "raise the own limits": means.raise_limits,
    }


if __name__ == "__main__":
    signal.alarm(90)
    main(json.loads(Path(sys.argv[1]).read_text()))
