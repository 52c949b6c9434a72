"""All attacks at one level: the real CLI, started as the daemon starts it, runs the hostile program
by its own Bash, beside another conversation and a daemon that holds a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from daemon.agents.claude import bundled_cli
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.isolation import users
from daemon.isolation.levels import Level
from daemon.isolation.scene import open_sockets
from daemon.model import Prompt, Workspace
from tests.agent_stages import RealStage, bash, new_uuid, real_stage, started
from tests.escape import planted

ROOT = Path(__file__).parents[2]
PROGRAM = (
    *("daemon/__init__.py", "daemon/errors.py", "daemon/isolation/__init__.py"),
    *("daemon/isolation/probe.py", "daemon/isolation/seccomp.py"),
    *("tests/__init__.py", "tests/escape/__init__.py"),
    *("tests/escape/attacks.py", "tests/escape/means.py", "tests/escape/plants.py"),
)
PATH = "/usr/local/bin:/usr/bin:/bin"
PATIENCE_SECONDS = 100.0

# A daemon that has the key in its environment and in its memory, and lives until it is let go.
DAEMON = (
    "import ctypes, os, sys;"
    "key = ctypes.create_string_buffer(os.environ['ANTHROPIC_API_KEY'].encode());"
    "print(ctypes.addressof(key), flush=True); sys.stdin.read()"
)

MUST_WORK = "must work"
Found = Mapping[str, Mapping[str, str]]
"""By heading and attack what came of it: "open", or what kept it."""


async def attack(level: Level, root: Path) -> Found:
    """Every attack at this level. `root` is a new directory that other users may enter."""
    async with (
        real_stage(root / "data", level=level) as stage,
        StandInModel(script=directed) as thief,
    ):
        own, other = stage.agents.new_workspace(), stage.agents.new_workspace()
        async with _neighbourhood(root, stage, own, other) as targets:
            found = await _attacked(stage, own, {**targets, "thief": thief.url})
        take_up = planted.defended if level.strength else planted.undefended
        return {**found, planted.HEADING: await take_up(stage, own, thief)}


async def _attacked(stage: RealStage, own: Workspace, targets: Mapping[str, Any]) -> Found:
    for name in PROGRAM:
        place = own.work / "program" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)
    (own.work / "targets.json").write_text(json.dumps(targets))
    command = (
        "cd program && python3 -B -S -m tests.escape.attacks ../targets.json"
        " > ../found.json 2> ../trouble.txt"
    )
    async with asyncio.timeout(PATIENCE_SECONDS), started(stage, own) as agent:
        events = [event async for event in agent.turn(Prompt(new_uuid(), bash(command)))]
    try:
        found: Found = json.loads((own.work / "found.json").read_text())
    except (OSError, ValueError) as error:
        trouble = own.work / "trouble.txt"
        told = trouble.read_text() if trouble.exists() else str(events[-1])
        raise AssertionError(f"the hostile program did not run to its end: {told}") from error
    return found


@contextlib.asynccontextmanager
async def _neighbourhood(
    root: Path, stage: RealStage, own: Workspace, other: Workspace
) -> AsyncIterator[dict[str, Any]]:
    """What there is to reach, as the hostile program is told of it."""
    canary = f"sk-ant-{secrets.token_hex(16)}"
    data, port = stage.settings.data_dir, stage.settings.gateway_port
    ledger, config = data / "ledger.db", root / "postroom.toml"
    ledger.write_text(canary)
    config.write_text(canary)
    for name in ("work/secret", "work/doomed", "work/movable", "config/transcript"):
        (other.root / name).write_text(canary)
    if stage.settings.level.own_users:
        users.hand_over(other.root, users.PROOF_NUMBERS[1])
    short = Path(tempfile.mkdtemp(prefix="pr-"))  # unix paths are at most 107 bytes
    shared = Path(tempfile.gettempdir()) / f"postroom-escape-{secrets.token_hex(4)}"
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", DAEMON),
        env={"ANTHROPIC_API_KEY": canary},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert daemon.stdout
    try:
        with contextlib.ExitStack() as sockets:
            yield {
                "work": str(own.work),
                "config_dir": str(own.config),
                "other": str(other.root),
                "data": str(root),
                "ledger": str(ledger),
                "config": str(config),
                "plan": str(data / "processes" / own.id / "plan"),
                "shared": str(shared),
                "program": shutil.which("true", path=PATH),
                "cli": str(bundled_cli()),
                "canary": [canary[:16], canary[16:]],
                "daemon": daemon.pid,
                "canary_address": int(await daemon.stdout.readline()),
                "granted_port": port,
                "port_on_ipv6": _listen(sockets, socket.AF_INET6, "::1", 0),
                "port_elsewhere": _listen(sockets, socket.AF_INET, "127.0.0.2", port),
                **open_sockets(sockets, short),
            }
    finally:
        daemon.kill()
        await daemon.wait()
        shared.unlink(missing_ok=True)
        shutil.rmtree(short, ignore_errors=True)


def _listen(sockets: contextlib.ExitStack, family: int, address: str, port: int) -> int:
    """The port that is listened on; 0 where this machine has no such address."""
    listener = sockets.enter_context(socket.socket(family))
    try:
        listener.bind((address, port))
    except OSError:
        return 0
    listener.listen(16)
    bound: int = listener.getsockname()[1]
    return bound


# --- what is known --------------------------------------------------------------------------------

KNOWN_OPEN: Mapping[str, frozenset[str]] = {
    "landlock": frozenset(
        {
            "connect to the gateway's port on another address",
            "see the size of another conversation's file",
            "change the mode of another conversation's file",
            "start 600 processes",
        }
    ),
    "uid": frozenset({"connect to the gateway's port on another address"}),
    "bwrap": frozenset(),
}
"""By level what it leaves open, as `daemon/isolation/levels.py` says in words for operators."""

HOSTS_MAY_SHUT = frozenset(
    {
        *("trace the daemon", "take a descriptor of the daemon", "set up io_uring"),
        *(
            "connect by MPTCP",
            "connect to another port over IPv6",
            "connect to another port on ::1",
        ),
        *("use a keyring", "add a key to a keyring", "make a user namespace"),
        *("clone into a user namespace", "clone into a user namespace by clone3"),
        *("connect to a cloud's metadata address", "open a socket to a virtual machine's host"),
        *("open a socket to the kernel's ciphers", "handle page faults", "make a BPF map"),
        *("count the processor's events", "make a message queue", "make a semaphore"),
        *("call as another architecture", "call by an x32 number", "watch the whole file system"),
        *("read the daemon's memory through /proc", "read the daemon's memory by a system call"),
        *("read the daemon's memory map", "list the daemon's open files", "set the kernel"),
        *("read the kernel's log", "start 600 processes", "mount a file system", "change the root"),
        *("enter a namespace", "open a raw socket", "open a packet socket", "raise the own limits"),
        *("reach it by a file handle", "rewrite a program of the system", "write a file of 3 GiB"),
        *("reach it through the daemon's root", "start a server planted in the workspace"),
        *("start a server planted in the CLI's state", "send the model's requests elsewhere"),
        *("speak through planted memory", "hold a capability", "write to shared memory"),
    }
)
"""What a kernel, a container or a user without privileges does not let anybody do, or what the CLI
may do no more: shown to succeed at `none` only where it does.
"""


def flat(found: Found) -> dict[str, str]:
    """All attacks; what must work is none."""
    return {
        name: outcome
        for heading, attacks in found.items()
        if heading != MUST_WORK
        for name, outcome in attacks.items()
    }


def open_in(found: Found) -> frozenset[str]:
    return frozenset(name for name, outcome in flat(found).items() if outcome == "open")
