"""The table that `python -m tests.load` prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Report:
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, part: str, what: str, value: str) -> None:
        self.rows.append((part, what, value))
        print(f"{part:14} {what:44} {value}", flush=True)

    def check(self, what: str, *, holds: bool) -> None:
        if not holds:
            self.broken.append(what)
            print(f"BROKEN: {what}", flush=True)

    def show(self) -> None:
        print(f"\nload average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
        print("| part | what | value |\n|---|---|--:|")
        for part, what, value in self.rows:
            print(f"| {part} | {what} | {value} |")
        print(f"\nbroken: {', '.join(self.broken) or 'nothing'}")


def seconds(values: Sequence[float]) -> str:
    """Median, 95th percentile and the longest."""
    ordered = sorted(values)
    last = len(ordered) - 1
    p50, p95 = ordered[round(0.5 * last)], ordered[round(0.95 * last)]
    return f"p50 {p50:.3f} s, p95 {p95:.3f} s, longest {ordered[-1]:.3f} s (n = {len(ordered)})"


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
