"""What an agent process is granted, and the Landlock and seccomp walls around exactly that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.isolation import landlock
from daemon.isolation.seccomp import filter_program

Pairs = list[tuple[str, str]]
"""Words and values of a plan, as launcher.py reads them."""

SYSTEM_READ_ONLY = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    # Of /etc only what programs need: root without capabilities still owns /etc/shadow.
    "/etc/ld.so.cache",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/protocols",
    "/etc/services",
    "/etc/mime.types",
    "/etc/terminfo",
    "/etc/inputrc",
    "/etc/bash.bashrc",
    "/etc/profile",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ssl/certs",  # never /etc/ssl: /etc/ssl/private is beside it
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/python3.12",
    "/etc/python3.13",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# No /proc (other processes' command lines and environments), /sys, /run, /tmp or /dev/shm.


@dataclass(frozen=True, slots=True)
class Grants:
    """Beyond the system's programs and libraries: paths to read and execute, directories to do
    anything in, TCP ports to connect to (Landlock has no addresses: the port on every host).
    """

    read_only: tuple[Path, ...]
    read_write: tuple[Path, ...]
    ports: tuple[int, ...]


def no_walls(grants: Grants) -> Pairs:
    """Nothing is walled: what a process gets besides its directories does not matter."""
    del grants
    return []


def landlock_walls(grants: Grants) -> Pairs:
    """No privileges, Landlock around files, ports and signals, seccomp around the rest.

    Raises WallError where this architecture has no seccomp table.
    """
    rules = landlock.ruleset()
    return [
        *_confined(rules, grants),
        *(("path", f"{rules.every} {path}") for path in grants.read_write),
        *(("path", f"{landlock.READ} {path.resolve()}") for path in grants.read_only),
        *(("optional", f"{landlock.READ} {path}") for path in SYSTEM_READ_ONLY),
        *(("optional", f"{rules.device} {path}") for path in DEVICES),
    ]


def relay_walls(grants: Grants) -> Pairs:
    """The same with no file at all: what carries bytes to the granted ports needs none. Signals it
    may send, as the one by which its end is the end of its children counts as its own.
    """
    return _confined(landlock.ruleset(signals=False), grants)


def _confined(rules: landlock.Ruleset, grants: Grants) -> Pairs:
    return [
        ("drop_privileges", "yes"),
        ("ruleset", rules.attributes.hex()),
        ("file_rights", str(rules.on_plain_files)),
        *(("port", str(port)) for port in grants.ports),
        ("filter", filter_program().hex()),
    ]
