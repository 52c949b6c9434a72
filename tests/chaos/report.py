"""A summary as a table on the terminal: of one run, or of several that were added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.rows import quantile
from tests.chaos.summary import Summary

RULES = (
    "lost", "twice", "disorder", "misplaced", "unasked", "merged", "mixed", "given up",
    "unlabelled", "asked again", "cut short",
)  # fmt: skip
SHOWN = 20


def show(
    summary: Summary, violations: Sequence[tuple[str, str]] = (), kept_in: object = None
) -> None:
    console = Console(highlight=False)
    print_table(console, "kill -9 under load", rows(summary))
    for rule, what in violations[:SHOWN]:
        console.print(f"[red]{rule}[/red]: {what}", soft_wrap=True)
    if kept_in is not None:
        console.print(f"kept in {kept_in}", soft_wrap=True)


def print_table(console: Console, title: str, lines: Iterable[tuple[str, ...]]) -> None:
    table = Table(title=title, show_header=False, min_width=70)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def rows(summary: Summary) -> list[tuple[str, str]]:
    kills, found = summary.kills, summary.looked_up
    return [
        ("runs", "; ".join(summary.runs)),
        ("commit", ", ".join(summary.commits)),
        ("kills of the daemon", f"{kills.total()} of {summary.planned_kills}: {_each(kills)}"),
        ("stopped by SIGTERM, and drained", str(summary.stops)),
        ("kills of a CLI, cuts of the sockets", f"{summary.clis}, {summary.cuts}"),
        ("minutes; waits for a backlog", f"{summary.seconds / 60:.1f}; {summary.catch_ups}"),
        ("start to connected, s", _times(summary.connected, summary.starts)),
        ("start to /readyz, s", _times(summary.ready, summary.starts)),
        *((name, str(number)) for name, number in summary.figures.items()),
        ("answered after, s", _times(summary.answered, summary.figures["messages"])),
        ("turns cut off, by what became of them", _each(summary.recovered)),
        ("deliveries looked up", f"{found['found']} found, {found['absent']} sent again"),
        ("the daemon's own sentences", _each(summary.notices)),
        ("answers by mail, unclear and missing", ", ".join(summary.unclear) or "none"),
        ("set aside after ten deaths, and told", ", ".join(summary.set_aside) or "none"),
        ("exits, ledger, processes left", "; ".join(summary.wrong) or "all as they should be"),
        *((rule.upper(), str(summary.broken[rule])) for rule in RULES),
    ]


def _times(samples: Sequence[float], of: int) -> str:
    """A nearest figure each; how many there are beside how many there could be."""
    if not samples:
        return f"none of {of}"
    return (
        f"p50 {quantile(samples, 50):.2f}, p95 {quantile(samples, 95):.2f}, "
        f"longest {max(samples):.2f} ({len(samples)} of {of})"
    )


def _each(counted: Mapping[str, int]) -> str:
    ordered = Counter(counted).most_common()
    return ", ".join(f"{name} {number}" for name, number in ordered) or "none"
