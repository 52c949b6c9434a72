"""The long form: 1,000 kills over 10,000 messages, in parts that are run one at a time.

Each part is a run of its own, with a seed of its own that follows from the long run's. Its summary
is one line of JSON in a directory of results; a part that is there is not run again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.plan import Size
from tests.chaos.summary import Summary

KILLS, MESSAGES = 1000, 10_000
SEEDS_APART = 1000  # so that the parts of two long runs have no seed in common


@dataclass(frozen=True, slots=True)
class Part:
    """Part `number` of `of`, counted from 1."""

    number: int
    of: int
    seed: int

    @classmethod
    def named(cls, text: str, seed: int) -> Part:
        """Out of "3/10". Raises ValueError."""
        number, _, of = text.partition("/")
        part = cls(int(number), int(of), seed)
        if not 1 <= part.number <= part.of < SEEDS_APART:
            raise ValueError(f"there is no part {text}: write 3/10 for the third of ten")
        return part

    @property
    def own_seed(self) -> int:
        return self.seed * SEEDS_APART + self.number

    def size(self, whole: Size) -> Size:
        """Its share of the kills, stops and messages of `whole`."""
        return replace(
            whole,
            kills=self._share(whole.kills),
            messages=self._share(whole.messages),
            stops=self._share(whole.stops),
        )

    def file(self, results: Path) -> Path:
        return results / f"seed-{self.seed}-part-{self.number:03d}-of-{self.of:03d}.json"

    def _share(self, of_all: int) -> int:
        return self.number * of_all // self.of - (self.number - 1) * of_all // self.of


def missing(results: Path, of: int, seed: int) -> list[Part]:
    """The parts that have no summary yet."""
    parts = [Part(number, of, seed) for number in range(1, of + 1)]
    return [part for part in parts if not part.file(results).exists()]


def keep(summary: Summary, file: Path) -> None:
    """All of it or nothing: a part that was broken off leaves no summary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".half")
    half.write_text(summary.line() + "\n")
    half.replace(file)


def add_up(results: Path) -> tuple[Summary, list[str]]:
    """All parts that lie there, and which ones do not. Raises ValueError where there is none, or
    one makes no sense.
    """
    files = sorted(results.glob("seed-*-part-*-of-*.json"))
    if not files:
        raise ValueError(f"there are no parts in {results}: make chaos LONG=1 puts them there")
    whole = Summary()
    for file in files:
        try:
            whole.add(Summary.read(file.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is no summary of a part ({error}): remove it") from error
    runs = {(int(seed), int(of)) for _, seed, _, _, _, of in (f.stem.split("-") for f in files)}
    away = [part for seed, of in sorted(runs) for part in missing(results, of, seed)]
    return whole, [f"{part.number}/{part.of} of seed {part.seed}" for part in away]
