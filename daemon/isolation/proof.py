"""The short proof: a hostile program goes through the very launcher, and must find every way shut.

It runs before the pool opens, in a directory beside the real ones and against the daemon's own
process, in well under a second. A level that does not hold is not used.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.errors import WallError
from daemon.isolation.levels import LEVELS, Level, candidates
from daemon.isolation.plan import SDK_VARIABLES, Plan, write_launcher
from daemon.isolation.scene import Scene, scene

PROBE = Path(__file__).with_name("probe.py")
DEADLINE_SECONDS = 15.0

MUST_WORK = frozenset(
    {"write and read the own workspace", "connect to the granted port", "run a program"}
)
REFUSALS = frozenset({"EACCES", "EPERM", "EXDEV", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"})
"""What the walls answer, or a kernel without that way. Any other error proves nothing: what the
probe was to reach was not there.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried, what must come of it ("open", "refused" or a value), what did."""

    name: str
    expected: str
    observed: str

    @property
    def holds(self) -> bool:
        if self.expected == "refused":
            return self.observed in REFUSALS
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


async def choose_level(
    requested: str, scratch: Path, levels: Mapping[str, Level] = LEVELS
) -> tuple[Level, Proof | None]:
    """The level to run at: for `auto` the strongest that passes its proof, never `none`.

    `scratch` is a directory on the volume of the real workspaces; nothing is left in it. The proof
    is None at `none`. Raises WallError (exit 78) with a sentence for the operator.
    """
    reasons = []
    for level in candidates(requested, levels):
        if not level.strength:
            return level, None
        missing = level.missing()
        proof = None if missing else await prove(level, scratch)
        if proof and proof.holds:
            return level, proof
        reasons.append(proof.sentence() if proof else f"{level.name}: {missing}")
    raise WallError(f"isolation.level = {requested!r}: no wall holds here ({'; '.join(reasons)})")


async def prove(level: Level, scratch: Path) -> Proof:
    """Try every way out at a level. A probe that does not run to its end proves nothing."""
    start = time.monotonic()
    with scene(scratch) as here:
        plan = _plan(level, here)
        output, complaint = await _run(plan, here)
        try:
            found = json.loads(output)
        except ValueError:
            check = Check("the probe runs", "to its end", complaint[-300:] or "it ended early")
            return Proof(level.name, (check,), time.monotonic() - start)
        checks = (*_judge(found["tries"]), *_compare(found["facts"], plan, level))
    return Proof(level.name, checks, time.monotonic() - start)


def _plan(level: Level, here: Scene) -> Plan:
    """The plan of a real conversation, with an interpreter to read where the CLI would be."""
    plan = Plan.for_conversation(
        level=level,
        command=Path(sys.executable).resolve(),
        root=here.own,
        gateway_port=here.granted_port,
        pid_file=here.run / "probe.pid",
        env={"ANTHROPIC_API_KEY": "a-capability-of-the-proof"},
    )
    interpreter = (Path(sys.base_prefix), Path(sys.base_exec_prefix), PROBE)
    grants = replace(plan.grants, read_only=(*plan.grants.read_only, *interpreter))
    return replace(plan, grants=grants)


async def _run(plan: Plan, here: Scene) -> tuple[str, str]:
    """The probe's output, and what it or the launcher complained of."""
    executable = write_launcher(plan, here.run)
    targets = {**here.targets, "work": str(plan.workdir), "granted_port": here.granted_port}
    ours = os.open(str(here.targets["ledger"]), os.O_RDONLY)  # must be closed on its way in
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(executable), "-I", "-S", str(PROBE), json.dumps(targets)),
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


def _judge(tries: Mapping[str, str]) -> Iterator[Check]:
    for name, observed in tries.items():
        yield Check(name, "open" if name in MUST_WORK else "refused", observed)


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
    for name, value in expected.items():
        yield Check(name, str(value), str(facts[name]))
