"""What a run came to, as one JSON object; several of them add up to one."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from tests.chaos.plan import Plan, Size
from tests.chaos.run import Outcome

TREE = Path(__file__).parents[2]
COUNTED = ("kills", "points", "figures", "recovered", "looked_up", "notices", "broken")
LARGEST = frozenset({"largest turn"})  # of the figures; the others are counts, and add up
BESIDE = frozenset({"notices", "unclear", "set aside", "answered after, s"})


@dataclass(slots=True)
class Summary:
    """Seconds throughout. `connected`, `ready` and `answered` are samples, a figure each; a life
    that ended before it was connected, or ready, gives none: hence `starts` beside them.

    `wrong` is what no checker sees: exit statuses that ought not to be, what SQLite says of the
    ledger, processes left over.
    """

    commits: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)  # each by its seed and size
    planned_kills: int = 0
    planned_messages: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    clis: int = 0
    cuts: int = 0
    catch_ups: int = 0
    seconds: float = 0.0
    starts: int = 0
    connected: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    looked_up: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing is broken, and all was done that was planned."""
        whole = self.kills.total() >= self.planned_kills
        whole = whole and self.figures["messages"] >= self.planned_messages
        return whole and not self.broken and not self.wrong

    def line(self) -> str:
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def read(cls, line: str) -> Self:
        """Raises ValueError, TypeError for what is no summary."""
        told: dict[str, Any] = json.loads(line)
        summary = cls(**told)
        for name in COUNTED:
            setattr(summary, name, Counter(getattr(summary, name)))
        return summary

    def add(self, other: Summary) -> None:
        largest = {name: max(self.figures[name], other.figures[name]) for name in LARGEST}
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for name, figure in largest.items():
            self.figures[name] = figure
        self.commits = sorted(set(self.commits))


def summarise(outcome: Outcome, plan: Plan, size: Size) -> Summary:
    record, told = outcome.record, outcome.figures
    return Summary(
        commits=[commit()],
        runs=[f"seed {plan.seed}, {size.kills} kills, {size.messages} messages"],
        planned_kills=size.kills,
        planned_messages=size.messages,
        kills=record.kills,
        points=record.points,
        stops=len(record.stops),
        clis=record.clis,
        cuts=record.cuts,
        catch_ups=record.catch_ups,
        seconds=round(record.seconds, 1),
        starts=outcome.starts,
        connected=[round(one, 2) for one in outcome.connected_after],
        ready=[round(one, 2) for one in outcome.ready_after],
        answered=told["answered after, s"],
        figures=Counter({name: n for name, n in told.items() if name not in BESIDE}),
        recovered=Counter(outcome.recovered),
        looked_up=Counter({of: outcome.logged.get(f"delivery.{of}", 0) for of in FOUND}),
        notices=Counter(told["notices"]),
        unclear=told["unclear"],
        set_aside=told["set aside"],
        broken=Counter(rule for rule, _ in outcome.violations),
        wrong=list(outcome.wrong),
    )


FOUND = ("found", "absent")


def commit() -> str:
    """The commit of this tree, with "+" where it has changed since; "unknown" without git."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ("git", "-C", str(TREE), *arguments), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
