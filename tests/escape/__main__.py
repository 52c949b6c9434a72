"""`python -m tests.escape [LEVEL...]`: prints the matrix; without a level, of all that are here.

Exit 0 only where nothing is open at a level but what is known to be. `none` is always there: it
shows which attacks succeed on this machine where nothing keeps them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from daemon.agents import cli_path
from daemon.isolation.levels import LEVELS, Level, fitted, lacks
from tests.escape.matrix import KNOWN_OPEN, MUST_WORK, Found, attack, open_in


def main(names: list[str]) -> int:
    if unknown := set(names) - LEVELS.keys():
        print(f"no such level: {', '.join(sorted(unknown))}; there are {', '.join(LEVELS)}")
        return 2
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # attacks cut connections
    found: dict[str, Found] = {}
    for level in map(as_here, wanted(names)):
        if why := not_here(level):
            print(f"not here: {level.name}: {why}")
        else:
            found[level.name] = attacked(level)
    print(table(found))
    print(LEGEND)
    return 1 if any(list(faults(level, cells)) for level, cells in found.items()) else 0


def wanted(names: list[str]) -> Iterable[Level]:
    return (level for level in LEVELS.values() if not names or level.name in {"none", *names})


def as_here(level: Level) -> Level:
    return fitted(level, workspaces())


def not_here(level: Level) -> str:
    """What this machine lacks for a level; "" nothing."""
    return lacks(level, workspaces(), cli_path())


def workspaces() -> Path:
    """Where those of an attack will lie, or as good as there."""
    return Path(tempfile.gettempdir(), "root", "data", "conversations")


def attacked(level: Level) -> Found:
    with tempfile.TemporaryDirectory(prefix="postroom-escape-") as directory:
        root = Path(directory)
        root.chmod(0o711)  # a level with users of its own must pass through
        return asyncio.run(attack(level, root))


LEGEND = """
none: what succeeds where nothing keeps it; in brackets what kept it even there, so that this row
proves nothing on this machine. S7: `none` is a CLI with what it takes up by default.
Levels: what kept it. (open): known, and told in docs/security.md. OPEN: it must not be."""


def table(found: Mapping[str, Found]) -> str:
    lines = [["attack", *found]]
    first = next(iter(found.values()))
    for heading, attacks in first.items():
        lines.append([f"**{heading}**", *("" for _ in found)])
        lines += (
            [name, *(cell(level, heading, name, here) for level, here in found.items())]
            for name in attacks
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def cell(level: str, heading: str, name: str, found: Found) -> str:
    outcome = found[heading].get(name, "-")
    if heading == MUST_WORK:
        return "works" if outcome == "open" else f"BROKEN: {outcome}"
    if level == "none":
        return outcome if outcome == "open" else f"({outcome})"
    if outcome != "open":
        return outcome
    return "(open)" if name in KNOWN_OPEN.get(level, ()) else "OPEN"


def faults(level: str, found: Found) -> Iterable[str]:
    """What is open and must not be, and what must work and does not."""
    yield from (name for name, outcome in found[MUST_WORK].items() if outcome != "open")
    if level != "none":
        yield from open_in(found) - KNOWN_OPEN.get(level, frozenset())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
