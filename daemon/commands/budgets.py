"""`postroom budgets`: what may be spent, what has been, and more of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from daemon.budgets import read_budget
from daemon.commands import asking, telling
from daemon.config import Config
from daemon.errors import NotDone, NotReachable, WrongUsage


def show(config: Config, *, as_json: bool) -> None:
    """Raises NotReachable when the daemon is down: it alone knows what is held."""
    told = asking.get(config, "budgets")
    if told is None:
        raise NotReachable(asking.down(config))
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    lines = _lines(told["budgets"]) if told["budgets"] else ["no budget has a limit: see [budgets]"]
    for line in lines:
        typer.echo(line)


def _lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is nearest to its limit first."""
    return telling.columns(
        ("budget", "spent", "of", "raised by", "held", "state"),
        (
            (
                row["budget"],
                f"${row['spent_usd']:.2f}",
                f"${row['limit_usd']:.2f}",
                f"${row['raised_usd']:.2f}" if row["raised_usd"] else "-",
                f"${row['held_usd']:.2f}",
                "spent" if row["closed"] else "open",
            )
            for row in sorted(rows, key=_left)
        ),
    )


def _left(row: Mapping[str, Any]) -> tuple[bool, float]:
    return not row["closed"], 1 - row["spent_usd"] / row["limit_usd"]


def add(config: Config, budget: str, dollars: float, until: datetime | None) -> None:
    """`until` is the last day on which it counts (UTC). Raises NotReachable when the daemon is
    down.
    """
    try:
        read_budget(budget)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    path = ["budgets", budget, "raise", str(dollars)]
    if until is not None:
        end = until.replace(tzinfo=UTC) + timedelta(days=1)
        path += ["until", str(end.timestamp())]
    told = asking.post(config, *path)
    if told is None:
        raise NotReachable(asking.down(config))
    if "error" in told:
        raise NotDone(told["error"])
    lasts = "for good" if told["until"] is None else f"until {telling.moment(told['until'])}"
    typer.echo(f"{told['budget']}: ${told['dollars']:.2f} more, {lasts}")
