"""Runs each mutant, and says whether the checker caught it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from tests.chaos.build import COMMAND as BUILD
from tests.chaos.mutants import MUTANTS
from tests.chaos.plan import Fuse, Size
from tests.chaos.planning import make
from tests.chaos.run import Outcome, run

KILLS, MESSAGES, LIFE_SECONDS = 12, 90, 4.0
QUIET_SECONDS = 40.0


async def hunt(names: Iterable[str], seed: int) -> int:
    """Exit status 0: all were caught."""
    console = Console(highlight=False)
    survived = 0
    for name in names:
        outcome = await attempt(name, seed, Path(tempfile.mkdtemp(prefix=f"postroom-{name}-")))
        caught = MUTANTS[name].earns & {rule for rule, _ in outcome.violations}
        survived += not caught
        broken = Counter(rule for rule, _ in outcome.violations)
        word = "[green]caught[/green]" if caught else "[red]SURVIVED[/red]"
        console.print(f"{name:14} {MUTANTS[name].breaks}: {word}, {dict(broken)}", soft_wrap=True)
    return 1 if survived else 0


async def attempt(
    name: str, seed: int, directory: Path, *, kills: int = KILLS, messages: int = MESSAGES
) -> Outcome:
    mutant = MUTANTS[name]
    kills = mutant.kills or kills
    size = Size(
        kills,
        messages,
        life=mutant.life or LIFE_SECONDS,
        at_once=mutant.at_once,
        mail=mutant.mail,
        tools=mutant.tools,
        lasting=mutant.lasting,
        away=mutant.away,
        later=4.0,
        aims=mutant.aims,
        fuses=(Fuse(mutant.point, 0),) * kills if mutant.point else (),
    )
    return await run(
        make(size, seed),
        size,
        directory / "run",
        command=(*BUILD, "--mutant", name),
        quiet=QUIET_SECONDS,
    )
