"""Runs each mutant, and says whether the checker caught it."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from rich.console import Console

from tests.chaos.mutants import MUTANTS
from tests.chaos.plan import Aim, Size, make
from tests.chaos.run import Outcome, run

LAUNCHER = Path(__file__).with_name("mutants.py")
KILLS, MESSAGES, LIFE_SECONDS = 12, 90, 4.0
QUIET_SECONDS = 25.0


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
    aims = cast("tuple[Aim, ...]", mutant.aims)
    size = Size(kills, messages, LIFE_SECONDS, mail=mutant.mail, later=4.0, aims=aims)
    command = (sys.executable, "-P", str(LAUNCHER), name)
    return await run(
        make(size, seed), size, directory / "run", command=command, quiet=QUIET_SECONDS
    )
