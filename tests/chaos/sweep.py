"""Kills at every named point, several times each, under load; one row of the table a point."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table

from tests.chaos.plan import Fuse, Size
from tests.chaos.points import POINTS
from tests.chaos.summary import Summary

MESSAGES_A_LIFE = 8
TOOLS, AWAY = 0.35, 0.08  # the points around tools and API errors are to be met in every life


def sweep(names: Iterable[str], times: int, mail: int, seed: int) -> Size:
    """Each of these points so many times; those in the way of mails only where there is mail."""
    rng = random.Random(seed)
    wanted = [name for name in names if mail or not POINTS[name].mail]
    fuses = tuple(_in_order(wanted, times, rng))
    return Size(
        kills=len(fuses),
        messages=MESSAGES_A_LIFE * len(fuses),
        mail=mail,
        tools=TOOLS,
        away=AWAY,
        fuses=fuses,
    )


def _in_order(names: list[str], times: int, rng: random.Random) -> Iterator[Fuse]:
    """In any order, but those that follow a death at another point come right behind one."""
    first = [name for name in names if not POINTS[name].follows for _ in range(times)]
    rng.shuffle(first)
    behind = Counter({name: times for name in names if POINTS[name].follows})
    for name in first:
        yield _fuse(name, rng)
        for other in +behind:
            if POINTS[other].follows == name:
                behind[other] -= 1
                yield _fuse(other, rng)
    for other in behind.elements():  # the point that it follows is none of these
        yield _fuse(POINTS[other].follows, rng)
        yield _fuse(other, rng)


def _fuse(name: str, rng: random.Random) -> Fuse:
    return Fuse(name, rng.randint(0, POINTS[name].passes))


def never_hit(size: Size, summary: Summary) -> list[str]:
    return sorted({fuse.point for fuse in size.fuses if not summary.points[fuse.point]})


def show_points(size: Size, summary: Summary) -> None:
    table = Table("point", "killed when", "aimed", "hit", title="kill -9 at each named point")
    aimed = Counter(fuse.point for fuse in size.fuses)
    for name, point in POINTS.items():
        if aimed[name]:
            hit = summary.points[name]
            colour = "" if hit else "[red]"
            table.add_row(name, point.when, str(aimed[name]), f"{colour}{hit}")
    Console(highlight=False, width=110).print(table)
