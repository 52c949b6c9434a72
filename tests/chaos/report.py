"""The summary of a run, as a table on the terminal."""

from __future__ import annotations

import statistics
from collections import Counter

from rich.console import Console
from rich.table import Table

from tests.chaos.plan import Size
from tests.chaos.run import Outcome

RULES = ("lost", "twice", "disorder", "misplaced", "unasked", "merged", "mixed", "given up")
SHOWN = 20


def show(outcome: Outcome, size: Size, seed: int) -> None:
    console = Console(highlight=False)
    table = Table(title=f"kill -9 under load, seed {seed}", show_header=False, min_width=70)
    for name, value in rows(outcome, size):
        table.add_row(name, value)
    console.print(table)
    for rule, what in outcome.violations[:SHOWN]:
        console.print(f"[red]{rule}[/red]: {what}", soft_wrap=True)
    console.print(f"kept in {outcome.directory}", soft_wrap=True)


def rows(outcome: Outcome, size: Size) -> list[tuple[str, str]]:
    record, figures = outcome.record, dict(outcome.figures)
    notices, unclear = figures.pop("notices"), figures.pop("unclear")
    set_aside = figures.pop("set aside")
    broken = Counter(rule for rule, _ in outcome.violations)
    ready = sorted(outcome.ready_after) or [0.0]
    return [
        ("kills of the daemon", f"{record.kills.total()} of {size.kills}: {_each(record.kills)}"),
        ("kills of a CLI, cuts of the sockets", f"{record.clis}, {record.cuts}"),
        ("minutes; waits for a backlog", f"{record.seconds / 60:.1f}; {record.catch_ups}"),
        (
            "start to connected, s",
            f"median {statistics.median(ready):.2f}, longest {ready[-1]:.2f}",
        ),
        *((name, str(value)) for name, value in figures.items()),
        ("turns cut off, by what became of them", _each(outcome.recovered)),
        (
            "deliveries looked up",
            f"{_logged(outcome, 'found')} found, {_logged(outcome, 'absent')} sent again",
        ),
        ("the daemon's own sentences", _each(notices)),
        ("answers by mail, unclear and missing", ", ".join(unclear) or "none"),
        ("set aside after ten deaths, and told", ", ".join(set_aside) or "none"),
        (
            "ledger; last exit; processes left",
            f"{outcome.integrity}; {record.status}; {record.left}",
        ),
        *((rule.upper(), str(broken[rule])) for rule in RULES),
    ]


def _logged(outcome: Outcome, what: str) -> int:
    return outcome.logged.get(f"delivery.{what}", 0)


def _each(counted: Counter[str] | dict[str, int]) -> str:
    ordered = sorted(counted.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {number}" for name, number in ordered) or "none"
