"""Where each message is, as the daemon's own trace tells it: `GET /api/v1/trace/ID`.

A row is one thing that somebody said. What the trace knows of it is read by a pure function; the
texts of answers are not in a trace and are looked up outside, where they arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.table import Table


class Where(StrEnum):
    """Where a message is; all after the first four are ends."""

    SAID = "said"
    REGISTERED = "registered"
    AT_WORK = "at work"
    ANSWERED = "answered"  # the turn is done, its answer is on its way
    DELIVERED = "delivered"
    DRAFTED = "drafted"
    IGNORED = "not for us"
    STOPPED = "stopped"
    OBEYED = "obeyed"  # the word "stop" itself
    FAILED = "failed"


STOP_TAKEN = "stop"
"""The reason of an inbox row that asked for the end of a turn (daemon/ledger/intake.py)."""

_COLOURS = {
    Where.SAID: "dim",
    Where.REGISTERED: "cyan",
    Where.AT_WORK: "yellow",
    Where.ANSWERED: "blue",
    Where.DELIVERED: "green",
    Where.DRAFTED: "green",
    Where.IGNORED: "magenta",
    Where.STOPPED: "magenta",
    Where.OBEYED: "magenta",
    Where.FAILED: "bold red",
}
_TEXTS = {"post", "reply", "draft"}  # effects that carry an answer's words
_UNDER_WAY = {"queued", "running"}
_CARRIED_OUT = {"sent", "unclear", "dead"}
_EVENTS_OF_A_MENTION = 2  # Slack tells of one mention twice: as `message` and as `app_mention`


@dataclass(frozen=True, slots=True)
class Standing:
    """What a trace says of a message. Times are seconds since the epoch."""

    where: Where = Where.SAID
    registered_at: float | None = None
    ended_at: float | None = None
    conversation: str = ""
    detail: str = ""
    refs: tuple[str, ...] = ()
    """What the outside calls what was delivered for it: a Slack ts, a Message-ID."""


@dataclass(slots=True)
class Row:
    """One thing that somebody said, and what became of it. `key` is what a trace is asked by."""

    number: int
    place: str
    who: str
    text: str
    key: str
    said_at: float
    wanted: Where
    standing: Standing = Standing()
    tool: str = ""
    answer: str = ""
    unheard: bool = False
    """Said while the daemon was dead."""

    @property
    def open(self) -> bool:
        return self.standing.where in {
            Where.SAID, Where.REGISTERED, Where.AT_WORK, Where.ANSWERED,
        }  # fmt: skip

    @property
    def as_wanted(self) -> bool:
        return self.standing.where is self.wanted

    @property
    def registered_ms(self) -> float | None:
        """Milliseconds from its saying to its row on disk."""
        at = self.standing.registered_at
        return None if at is None else max(0.0, at - self.said_at) * 1000

    @property
    def seconds(self) -> float | None:
        """From its saying to the delivery of what came of it."""
        at = self.standing.ended_at
        return None if at is None or self.open else max(0.0, at - self.said_at)


@dataclass(slots=True)
class Board:
    """All rows, in the order in which they were said."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self, *, place: str, who: str, text: str, key: str, said_at: float, wanted: Where
    ) -> Row:
        row = Row(len(self.rows) + 1, place, who, text, key, said_at, wanted)
        self.rows.append(row)
        return row

    @property
    def open(self) -> list[Row]:
        return [row for row in self.rows if row.open]

    def working(self, conversation: str) -> Row | None:
        """The row of a conversation that is at work, or was last: they are worked on in order."""
        rows = [row for row in self.rows if row.standing.conversation == conversation]
        return next((row for row in rows if row.open), rows[-1] if rows else None)

    def missing(self) -> list[str]:
        """A line for each row that did not end as it should."""
        return [
            f"message {row.number} ({row.who}, {row.place}: {row.text!r}) should be "
            f"{row.wanted}, and is {row.standing.where} {row.standing.detail}".rstrip()
            for row in self.rows
            if not row.as_wanted
        ]

    def unaccounted(self, outside: Mapping[str, str]) -> list[str]:
        """A line for whatever lies outside and belongs to no row, or to a row and not outside:
        answered once means that there is neither.
        """
        known = {ref: row for row in self.rows for ref in row.standing.refs}
        beside = [
            f"outside there is an answer of no message: {ref} {text[:60]!r}"
            for ref, text in outside.items()
            if ref not in known
        ]
        absent = [
            f"message {row.number}: its answer {ref} is not there"
            for ref, row in known.items()
            if ref not in outside
        ]
        return beside + absent

    def summary(self, deaths: int) -> str:
        """The day in one sentence, for a day that ended well."""
        messages = [row for row in self.rows if row.standing.where is not Where.OBEYED]
        ends = Counter(str(row.standing.where) for row in messages)
        heard = [row.registered_ms or 0.0 for row in messages if not row.unheard]
        return (
            f"{len(messages)} message{'' if len(messages) == 1 else 's'}: "
            + ", ".join(f"{number} {where}" for where, number in ends.items())
            + ". Nothing lost, nothing answered twice"
            + (f", across {deaths} kill -9" if deaths else "")
            + f". Registered within {max(heard, default=0):.0f} ms."
        )

    def table(self, width: int, last: int | None = None) -> Table:
        """The rows, or the last few of them, for a screen of so many columns."""
        table = Table(expand=True, box=None, pad_edge=False, header_style="bold dim")
        table.add_column("#", width=2, justify="right")
        table.add_column("who", max_width=14, overflow="ellipsis", no_wrap=True)
        table.add_column("said", ratio=4, overflow="ellipsis", no_wrap=True)
        table.add_column("is", max_width=max(20, width // 4), overflow="ellipsis", no_wrap=True)
        table.add_column("kept", width=7, justify="right", no_wrap=True)
        table.add_column("done", width=7, justify="right", no_wrap=True)
        table.add_column("answer", ratio=5, overflow="ellipsis", no_wrap=True)
        for row in self.rows if last is None else self.rows[-last:]:
            kept = "" if row.registered_ms is None else f"{row.registered_ms:.0f} ms"
            seconds = "" if row.seconds is None else f"{row.seconds:.2f} s"
            answer = " ".join(row.answer.split())
            who = f"{escape(row.who)} [dim]{escape(row.place)}[/]"
            said, found = escape(row.text), escape(answer)
            table.add_row(str(row.number), who, said, state(row), kept, seconds, found)
        return table


def state(row: Row) -> str:
    """Where a row is, with what is worth knowing of it, as rich markup."""
    where = row.standing.where
    detail = row.standing.detail
    if row.tool:
        detail = f"tool {row.tool}" + (f", {detail}" if detail else "")
    colour = _COLOURS[where]
    return f"[{colour}]{where}[/]" + (f" [dim]({escape(detail)})[/]" if detail else "")


def read_story(story: Mapping[str, Any], key: str) -> Standing:
    """What a trace (docs/trace.md) says of the message that it was asked for by `key`."""
    messages = story.get("messages", ())
    mine = (message for message in messages if message["outside_id"] == key)
    message = next(mine, messages[0] if messages else None)
    if message is None:
        return Standing()
    registered = message["registered_at"]
    conversation = message.get("conversation") or ""
    if message["state"] in {"ignored", "left_out"}:
        if message["reason"] == STOP_TAKEN:
            return Standing(Where.OBEYED, registered, registered, conversation)
        why = message["reason"] or message["state"]
        return Standing(Where.IGNORED, registered, registered, conversation, why)
    if message["state"] in {"dead", "unreadable"}:
        return Standing(Where.FAILED, registered, registered, conversation, message["reason"])
    turn = next((t for t in story["turns"] if t["id"] == message["turn"]), None)
    if turn is None:
        return Standing(Where.REGISTERED, registered, None, conversation)
    return _of_turn(story, message, turn, conversation)


def _of_turn(
    story: Mapping[str, Any], message: Mapping[str, Any], turn: Mapping[str, Any], conversation: str
) -> Standing:
    registered = message["registered_at"]
    effects = [effect for effect in story["effects"] if effect["turn"] == turn["id"]]
    sent = [effect for effect in effects if effect["state"] == "sent"]
    refs = tuple(effect["ref"] for effect in sent if effect["kind"] in _TEXTS)
    labels = [effect["ref"] for effect in sent if effect["kind"] == "label"]
    ended = max((effect["ended_at"] for effect in sent), default=turn["ended_at"])
    detail = ", ".join([*_unusual(message, turn), *labels])
    if turn["state"] in _UNDER_WAY:
        return Standing(Where.AT_WORK, registered, None, conversation, detail)
    if any(effect["state"] not in _CARRIED_OUT for effect in effects):
        return Standing(Where.ANSWERED, registered, None, conversation, detail)
    if turn["state"] == "stopped":
        return Standing(Where.STOPPED, registered, ended, conversation, detail, refs)
    if turn["state"] != "done" or len(sent) < len(effects) or not sent:
        why = turn["reason"] or ", ".join(e["state"] for e in effects) or "no answer"
        return Standing(Where.FAILED, registered, ended, conversation, why, refs)
    kinds = {effect["kind"] for effect in sent}
    where = Where.DELIVERED if kinds & {"post", "reply"} else Where.DRAFTED
    return Standing(where, registered, ended, conversation, detail, refs)


def _unusual(message: Mapping[str, Any], turn: Mapping[str, Any]) -> list[str]:
    """What went otherwise than usual, and did no harm."""
    found = []
    if turn["attempt"] > 1:
        found.append(f"attempt {turn['attempt']}")
    if message["deliveries"] > _EVENTS_OF_A_MENTION:
        found.append(f"came {message['deliveries']} times")
    return found
