"""What a hostile program is set against: another conversation, a daemon's files and its sockets.

The proof builds one beside the real conversations and removes it; the sockets serve the tests too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.isolation import users

OLD_SCENE_SECONDS = 600.0
TCP_FASTOPEN = 23  # linux/tcp.h


@dataclass(frozen=True, slots=True)
class Scene:
    """Two conversations, a daemon's files and sockets. `granted` listens in place of the gateway;
    `targets` is what the probe is told; `user` whose the own conversation is, None: the daemon's.
    """

    own: Path
    run: Path
    probe: Path
    granted: socket.socket
    targets: Mapping[str, Any]
    user: int | None


@contextlib.contextmanager
def scene(scratch: Path, probe: Path, *, own_users: bool = False) -> Iterator[Scene]:
    """A scene in a new directory below `scratch`, with a copy of the probe where all its users can
    read it; nothing of it is left behind.
    """
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_old_scenes(scratch)
    top = Path(tempfile.mkdtemp(prefix="proof-", dir=scratch))
    # Unix paths are at most 107 bytes: these lie in a short place, as granted as any other.
    short = Path(tempfile.mkdtemp(prefix="pr-"))
    shared = Path(tempfile.gettempdir()) / f"postroom-proof-{secrets.token_hex(4)}"
    try:
        own, other = top / "own", top / "other"
        for conversation in (own, other):
            for name in ("work", "config", "home", "tmp"):
                (conversation / name).mkdir(parents=True)
        for name in ("work/secret", "work/doomed", "work/movable", "config/transcript"):
            (other / name).write_text("another conversation's")
        (top / "ledger").write_text("the daemon's")
        copy = top / "probe.py"
        copy.write_bytes(probe.read_bytes())
        copy.chmod(0o644)
        if own_users:
            users.let_pass(scratch.parent, scratch, top)
            for conversation, user in zip((own, other), users.PROOF_NUMBERS, strict=True):
                conversation.chmod(0o700)
                users.hand_over(conversation, user)
        with contextlib.ExitStack() as sockets:
            targets = {
                "other": str(other),
                "ledger": str(top / "ledger"),
                "plan": str(top / "run" / "plan"),
                "shared": str(shared),
                "daemon": os.getpid(),
                **open_sockets(sockets, short),
            }
            granted = sockets.enter_context(_tcp_listener())
            elsewhere = sockets.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody's already: it listens just as well
                elsewhere.bind(("127.0.0.2", granted.getsockname()[1]))
                elsewhere.listen(1)
            yield Scene(
                own,
                top / "run",
                copy,
                granted,
                targets,
                users.PROOF_NUMBERS[0] if own_users else None,
            )
    finally:
        shared.unlink(missing_ok=True)
        shutil.rmtree(short, ignore_errors=True)
        shutil.rmtree(top, ignore_errors=True)


def open_sockets(sockets: contextlib.ExitStack, directory: Path) -> dict[str, Any]:
    """What a daemon and its neighbours may listen on, and none of it is granted. Paths in
    `directory` have to be short.
    """
    abstract = f"postroom-proof-{secrets.token_hex(8)}"
    tcp = sockets.enter_context(_tcp_listener())
    udp = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    addresses = {
        str(directory / "stream"): socket.SOCK_STREAM,
        str(directory / "datagram"): socket.SOCK_DGRAM,
        f"\0{abstract}": socket.SOCK_STREAM,
    }
    for address, kind in addresses.items():
        unix = sockets.enter_context(socket.socket(socket.AF_UNIX, kind))
        unix.bind(address)
        if kind == socket.SOCK_STREAM:
            unix.listen(16)
    return {
        "other_port": tcp.getsockname()[1],
        "udp_port": udp.getsockname()[1],
        "unix_stream": str(directory / "stream"),
        "unix_datagram": str(directory / "datagram"),
        "unix_abstract": abstract,
    }


def _remove_old_scenes(scratch: Path) -> None:
    """Those of proofs that were killed; a young one may be at work (`doctor` beside a daemon)."""
    for old in scratch.glob("proof-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > OLD_SCENE_SECONDS:
                shutil.rmtree(old)


def _tcp_listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    with contextlib.suppress(OSError):  # where the kernel has no Fast Open there is no way by it
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    listener.listen(64)
    return listener
