"""What this machine, or the container that it is, has to give, and by which names it is meant."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a control group says so."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        own = Path("/proc/self/cgroup").read_text("utf-8")
    except OSError:
        return whole
    return min([whole, *limits(own, CGROUPS)])


def limits(own: str, root: Path) -> list[int]:
    """The limits of a process's control group and of those above it: cgroups(7), version 2. `own`
    is /proc/PID/cgroup; in a container its path may be one that is not to be seen, and the root's
    file is the container's.
    """
    path = next((line[len("0::") :] for line in own.splitlines() if line.startswith("0::")), "/")
    here = root / path.strip("/")
    folders = [here, *(parent for parent in here.parents if parent.is_relative_to(root))]
    found: list[int] = []
    for folder in folders:
        try:
            text = (folder / "memory.max").read_text("utf-8").strip()
        except OSError:
            continue
        if text.isdigit():  # else "max"
            found.append(int(text))
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name, without asking any resolver."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
