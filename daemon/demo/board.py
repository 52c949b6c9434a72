"""Where each message is: reads the daemon's own log lines, as an operator would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

_COLOURS = {
    "said": "dim",
    "registered": "cyan",
    "at work": "yellow",
    "answered": "blue",
    "delivered": "green",
    "ignored": "magenta",
}
_OUTCOMES = {"ignored": "ignored", "left_out": "left out", "duplicate": "duplicate: one message"}


@dataclass(slots=True)
class Row:
    """One message of the day; `conversation` is known once the daemon has registered it."""

    number: int
    channel: str
    who: str
    text: str
    where: str = "said"
    detail: str = ""
    seconds: float | None = None
    answer: str = ""
    conversation: str = ""
    message: str = ""
    wants_answer: bool = True

    @property
    def settled(self) -> bool:
        return self.where == "delivered" if self.wants_answer else self.where == "ignored"


@dataclass(slots=True)
class Board:
    """All rows. One message is said at a time, so a registration belongs to the newest row."""

    log: Path
    rows: list[Row] = field(default_factory=list)
    _offset: int = 0

    def add(self, channel: str, who: str, text: str, *, wants_answer: bool) -> Row:
        row = Row(len(self.rows) + 1, channel, who, text, wants_answer=wants_answer)
        self.rows.append(row)
        return row

    def read(self) -> None:
        """Take in what the daemon has logged since the last time."""
        if not self.log.exists():
            return
        with self.log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if line.startswith(b"{"):
                    self._take(json.loads(line))

    def table(self) -> Table:
        table = Table(title="The day, and where each message is", expand=True)
        table.add_column("#", width=2)
        table.add_column("where from", width=10)
        table.add_column("who", width=9)
        table.add_column("said", ratio=3, overflow="ellipsis", no_wrap=True)
        table.add_column("is", width=24)
        table.add_column("s", width=5, justify="right")
        table.add_column("answer", ratio=3, overflow="ellipsis", no_wrap=True)
        for row in self.rows:
            colour = _COLOURS.get(row.where, "white")
            state = f"[{colour}]{row.where}[/]" + (f" [dim]{row.detail}[/]" if row.detail else "")
            seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
            answer = " ".join(row.answer.split())
            table.add_row(str(row.number), row.channel, row.who, row.text, state, seconds, answer)
        return table

    def _take(self, entry: dict[str, Any]) -> None:
        event = entry.get("event")
        if event == "message.registered":
            self._registered(entry)
            return
        row = self._row_of(entry.get("conversation"))
        if row is None:
            return
        if event == "turn.claimed":
            row.where, row.detail = "at work", ""
        elif event == "tool.used":
            row.detail = f"tool {entry['tool']}"
        elif event == "turn.finished":
            row.where, row.detail = "answered", f"turn {entry['seconds']:.2f} s"
        elif event in {"delivery.sent", "delivery.found"}:
            row.where, row.seconds = "delivered", entry["seconds"]

    def _registered(self, entry: dict[str, Any]) -> None:
        outcome = entry["outcome"]
        if outcome == "duplicate":
            known = next((r for r in reversed(self.rows) if r.message), None)
            if known is not None and known.where != "delivered":
                known.detail = _OUTCOMES[outcome]
            return
        row = next((row for row in self.rows if row.where == "said"), None)
        if row is None:
            return
        row.message = entry["message"] or ""
        row.conversation = entry["conversation"] or ""
        if outcome in {"ignored", "left_out"}:
            row.where, row.detail = "ignored", "no answer wanted"
        else:
            row.where = "registered"

    def _row_of(self, conversation: str | None) -> Row | None:
        if conversation is None:
            return None
        mine = (r for r in reversed(self.rows) if r.conversation == conversation)
        return next((row for row in mine if row.where not in {"delivered", "ignored"}), None)
