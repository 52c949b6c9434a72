"""One row of the benchmark's table, its aim, and how the table is printed.

A part of the benchmark measures both sides in one run, interleaved, and returns rows; nothing here
fails a run, as the figures of a shared machine are no verdict.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Measure(StrEnum):
    """What an aim bounds; `AT_LEAST` from below, the others from above."""

    RATIO = "of it"  # ours / plain
    MORE = "more"  # ours - plain
    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound of issue 2's table; `bound` is in the row's unit, or a ratio."""

    measure: Measure
    bound: float

    def met(self, ours: float, plain: float | None) -> bool | None:
        """None: there is nothing to judge it by."""
        match self.measure:
            case Measure.AT_MOST:
                return ours <= self.bound
            case Measure.AT_LEAST:
                return ours >= self.bound
            case _ if plain is None:
                return None
            case Measure.RATIO:
                return ours <= self.bound * plain
            case Measure.MORE:
                return ours <= plain + self.bound

    def sentence(self, unit: str) -> str:
        match self.measure:
            case Measure.RATIO:
                return f"<= {self.bound:g} of it"
            case Measure.MORE:
                return f"<= + {self.bound:g} {unit}"
            case Measure.AT_MOST:
                return f"<= {self.bound:g} {unit}"
            case Measure.AT_LEAST:
                return f">= {self.bound:g} {unit}"


def ratio(bound: float) -> Aim:
    return Aim(Measure.RATIO, bound)


def more(bound: float) -> Aim:
    return Aim(Measure.MORE, bound)


def at_most(bound: float) -> Aim:
    return Aim(Measure.AT_MOST, bound)


def at_least(bound: float) -> Aim:
    return Aim(Measure.AT_LEAST, bound)


@dataclass(frozen=True, slots=True)
class Row:
    """`work` done by us beside `beside`, both in `unit`. `plain` None: nothing that can be measured
    here. `samples` is how many each side has; `aim` None: shown for what it tells, no aim is set.
    """

    work: str
    beside: str
    ours: float
    plain: float | None
    unit: str
    samples: int
    aim: Aim | None = None


def quantile(samples: Sequence[float], percent: int) -> float:
    """The p-th percentile; of fewer samples than it can tell apart, the largest stands for it."""
    if len(samples) < 2:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def compare(
    work: str,
    beside: str,
    ours: Sequence[float],
    plain: Sequence[float],
    *,
    unit: str = "ms",
    p50: Aim | None = None,
    p99: Aim | None = None,
) -> list[Row]:
    """The median and the 99th percentile of two lists of samples, one row each."""
    return [
        Row(
            f"{work}, p{percent}",
            beside,
            quantile(ours, percent),
            quantile(plain, percent),
            unit,
            min(len(ours), len(plain)),
            aim,
        )
        for percent, aim in ((50, p50), (99, p99))
    ]


_HEAD = ("work", "beside", "ours", "plain", "more", "ratio", "aim", "met", "n")


def table(rows: Iterable[Row]) -> str:
    """GitHub's Markdown, its columns aligned so that it can be read in a terminal, too."""
    lines: list[tuple[str, ...]] = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(_line(cells, widths) for cells in (lines[0], ruler, *lines[1:]))


def _cells(row: Row) -> tuple[str, ...]:
    more_ = than = "-"
    if row.plain is not None:
        more_ = f"{row.ours - row.plain:+.{_digits(row.ours)}f}"
        than = f"{row.ours / row.plain:.2f}" if row.plain else "-"
    met = None if row.aim is None else row.aim.met(row.ours, row.plain)
    return (
        row.work,
        row.beside,
        _figure(row.ours, row.unit),
        "-" if row.plain is None else _figure(row.plain, row.unit),
        more_,
        than,
        row.aim.sentence(row.unit) if row.aim else "-",
        {None: "-", True: "yes", False: "NO"}[met],
        str(row.samples),
    )


def _figure(value: float, unit: str) -> str:
    return f"{value:.{_digits(value)}f} {unit}"


def _digits(value: float) -> int:
    """Three figures that mean something are enough."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if index < 2 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return f"| {' | '.join(padded)} |"
