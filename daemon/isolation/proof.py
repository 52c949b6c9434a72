"""The short proof: a hostile program goes through the very launcher, and must find every way shut.

It runs before the pool opens, in a directory beside the real ones and against the daemon's own
process, in well under a second. A level that does not hold is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.errors import WallError
from daemon.isolation import namespaces, users
from daemon.isolation.levels import LEVELS, Level, candidates, fitted, lacks
from daemon.isolation.plan import SDK_VARIABLES, Plan, write_launcher
from daemon.isolation.scene import Scene, scene

PROBE = Path(__file__).with_name("probe.py")
DEADLINE_SECONDS = 15.0
UNMAPPED = 65534
"""How a group shows in a user namespace that has it not: user_namespaces(7)."""

MUST_WORK = frozenset(
    {
        "write and read the own workspace",
        "speak with the granted port",
        "run a program",
        "open the CLI",
    }
)
REFUSALS = frozenset({"EACCES", "EPERM", "EXDEV", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"})
"""What the walls answer, or a kernel without that way. Any other error proves nothing: what the
probe was to reach was not there. Only where a level hides things is that its answer, too.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried, what must come of it ("open", "refused" or a value), what did.
    `refusals` are the errors by which the level refuses.
    """

    name: str
    expected: str
    observed: str
    refusals: frozenset[str] = REFUSALS

    @property
    def holds(self) -> bool:
        if self.expected == "refused":
            return self.observed in self.refusals
        return self.observed == self.expected


@dataclass(frozen=True, slots=True)
class Proof:
    """What was tried at a level, in seconds."""

    level: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.holds)

    def sentence(self) -> str:
        """For an operator: what does not hold, or that all does."""
        if self.holds:
            return f"{self.level}: all {len(self.checks)} checks hold"
        shown = "; ".join(
            f"{check.name}: {check.observed}, not {check.expected}" for check in self.failures[:3]
        )
        more = f" and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        return f"{self.level}: {shown or 'nothing was tried'}{more}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The level to run at. `proof` is None at `none`; `passed_over` says of each stronger level why
    it is not the one.
    """

    level: Level
    proof: Proof | None
    passed_over: tuple[str, ...] = ()


async def choose_level(
    requested: str,
    scratch: Path,
    levels: Mapping[str, Level] = LEVELS,
    *,
    cli: Path | None = None,
) -> Choice:
    """The level to run at: for `auto` the strongest that passes its proof, never `none`.

    `scratch` is the folder of the real workspaces; nothing is left in it. `cli` is what will be run
    and must be there at that level. Raises WallError (exit 78) with a sentence for the operator.
    """
    reasons: list[str] = []
    for candidate in candidates(requested, levels):
        level = await asyncio.to_thread(fitted, candidate, scratch)
        if not level.strength:
            return Choice(level, None)
        missing = await asyncio.to_thread(lacks, level, scratch, cli)
        proof = None if missing else await prove(level, scratch, cli)
        if proof and proof.holds:
            return Choice(level, proof, tuple(reasons))
        reasons.append(proof.sentence() if proof else f"{level.name}: {missing}")
    raise WallError(f"isolation.level = {requested!r}: no wall holds here ({'; '.join(reasons)})")


async def prove(level: Level, scratch: Path, cli: Path | None = None) -> Proof:
    """Try every way out at a level. A probe that does not run to its end proves nothing."""
    start = time.monotonic()
    try:
        with scene(scratch, PROBE, own_users=level.own_users) as here:
            async with await asyncio.start_server(_answer, sock=here.granted):
                plan = _plan(level, here, cli)
                output, complaint = await _run(plan, here, cli)
    except OSError as error:  # a file system without owners, a full disk
        return _unproven(level, start, str(error))
    try:
        found = json.loads(output)
    except ValueError:
        return _unproven(level, start, complaint[-300:] or "it ended early")
    checks = (*_judge(found["tries"], level), *_compare(found["facts"], plan, level))
    return Proof(level.name, checks, time.monotonic() - start)


def _unproven(level: Level, start: float, why: str) -> Proof:
    check = Check("the probe runs", "to its end", why)
    return Proof(level.name, (check,), time.monotonic() - start)


def _plan(level: Level, here: Scene, cli: Path | None) -> Plan:
    """The plan of a real conversation, with an interpreter to run where the CLI would be."""
    python = namespaces.python(for_others=level.own_users)
    plan = Plan.for_conversation(
        level=level,
        command=python,
        root=here.own,
        gateway_port=here.granted.getsockname()[1],
        pid_file=here.run / "probe.pid",
        env={"ANTHROPIC_API_KEY": "a-capability-of-the-proof"},
        user=here.user,
    )
    more = (here.probe, *namespaces.libraries(python), *([cli] if cli else []))
    return replace(plan, grants=replace(plan.grants, read_only=(*plan.grants.read_only, *more)))


async def _run(plan: Plan, here: Scene, cli: Path | None) -> tuple[str, str]:
    """The probe's output, and what it or the launcher complained of."""
    executable = write_launcher(plan, here.run)
    targets = {
        **here.targets,
        "work": str(plan.workdir),
        "granted_port": here.granted.getsockname()[1],
        "cli": str(cli or plan.command),
    }
    ours = os.open(str(here.targets["ledger"]), os.O_RDONLY)  # must be closed on its way in
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(executable), "-I", "-S", str(here.probe), json.dumps(targets)),
            cwd=plan.workdir,
            env={"POSTROOM_SECRET": "must not arrive", "LD_LIBRARY_PATH": "", "PATH": "/nowhere"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(ours,),
        )
    finally:
        os.close(ours)
    try:
        output, complaint = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    except TimeoutError:
        return "", f"it did not end within {DEADLINE_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace"), complaint.decode(errors="replace").strip()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """In place of the gateway: a word for whoever says something."""
    with contextlib.suppress(OSError):
        await reader.read(1)
        writer.write(b"HTTP/1.0 204 No Content\r\n\r\n")
        await writer.drain()
    writer.close()


def _judge(tries: Mapping[str, str], level: Level) -> Iterator[Check]:
    refusals = REFUSALS | level.hides
    for name, observed in tries.items():
        yield Check(name, "open" if name in MUST_WORK else "refused", observed, refusals)


def _compare(facts: Mapping[str, Any], plan: Plan, level: Level) -> Iterator[Check]:
    environment = dict(facts["environment"])
    mark = environment.pop("POSTROOM_PROCESS", "")
    unexpected = {
        name
        for name in environment.keys() | plan.env.keys()
        if environment.get(name) != plan.env.get(name) and name not in SDK_VARIABLES
    }
    yield Check("environment beyond the plan", "[]", json.dumps(sorted(unexpected)))
    yield Check("its mark is in the environment", "True", str(":" in mark))
    expected: dict[str, object] = {
        "descriptors": [0, 1, 2],
        "death_signal": 15,
        "leads_its_session": True,
        "core_limit": 0,
        "umask": 0o077,
        "directory": str(plan.workdir),
    }
    if level.strength:
        expected |= {"capabilities": 0, "no_new_privs": 1, "seccomp": 2}
    if plan.user is not None:
        user = plan.user
        expected |= {"users": [user] * 6, "groups": [users.PASSAGE], "others": "EACCES"}
        if level.wrapper is not None:
            expected["groups"] = [UNMAPPED]
    if "NPROC" in plan.limits:
        expected["process_limit"] = plan.limits["NPROC"]
    expected |= level.sees
    for name, value in expected.items():
        yield Check(name, str(value), str(facts[name]))
