"""One daemon per data directory: flock on a file in it, which the kernel frees at its death."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from daemon.errors import ConfigError, DataDirBusy

# flock and SQLite's shared memory do not work, or not for all hosts, on these.
_NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    ]
)


class DataDirLock:
    """Held from the making until `release`. Raises DataDirBusy, ConfigError.

    The descriptor is not inheritable: with an inherited one, a child of a dead daemon kept the lock
    (measured).
    """

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / "lock"
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_network_file_system(data_dir)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"daemon.data_dir: {data_dir} cannot be used: {error}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            by = f" (process {holder})" if holder else ""
            raise DataDirBusy(f"another daemon{by} holds {data_dir}; stop it first") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def refuse_network_file_system(data_dir: Path) -> None:
    """Raises ConfigError where the kernel says that the directory lies on a network volume."""
    kind = file_system(data_dir, _mounts())
    if kind in _NETWORK:
        raise ConfigError(
            f"daemon.data_dir: {data_dir} lies on a network file system ({kind}), where the ledger "
            "cannot be kept safe; name a directory on a local disk"
        )


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds `path`, by /proc/self/mountinfo (proc(5)); None where
    that cannot be told.
    """
    here = path.resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(fields[4].replace("\\040", " "))
        # The last of equals lies on top.
        if here.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split(" ", 1)[0]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
