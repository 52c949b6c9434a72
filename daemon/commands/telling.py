"""How a story, a list or a conversation is told to a person at a terminal: values to lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from daemon.approvals import readable

Row = Mapping[str, Any]

_SAFE = {"\n", "\t", "\u200c", "\u200d"}  # the last two join letters and emoji
# What steers a terminal or turns text round: a stranger may have written it.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}

# What happened -> who did it, and in words. An end of a turn that is not here tells itself.
_WORDS = {
    "sent by its author": ("author", "wrote it"),
    "registered": ("daemon", "registered it, and let it be acknowledged"),
    "changed": ("author", "changed it"),
    "changed too late": ("author", "changed it, after it was taken up"),
    "taken back": ("author", "deleted it"),
    "taken back too late": ("author", "deleted it, after it was taken up"),
    "claimed": ("daemon", "took it up as a turn"),
    "attempt": ("daemon", "asked the agent, attempt {detail}"),
    "interrupted": ("daemon", "had died meanwhile, and starts again"),
    "tool used": ("agent", "uses {detail}"),
    "approval asked": ("agent", "asks for a person's word: {detail}"),
    "approved": ("person", "approved {detail}"),
    "denied": ("person", "denied {detail}"),
    "approval used": ("daemon", "let it through: {detail}"),
    "approval expired": ("daemon", "called it off: {detail}"),
    "put back": ("daemon", "put it back: {detail}"),
    "model asked": ("model", "was asked: {detail}"),
    "staged": ("agent", "wants outside: {detail}"),
    "recorded": ("daemon", "has to send: {detail}"),
    "sending": ("daemon", "begins to send"),
    "sent": ("outside", "has it as {detail}"),
    "unclear": ("daemon", "CANNOT TELL whether it arrived: {detail}"),
    "dead": ("daemon", "GAVE UP: {detail}"),
    "lost": ("daemon", "CANNOT TELL what was done: {detail}"),
    "done": ("agent", "answered"),
    "retried by a person": ("person", "had it tried again"),
    "discarded by a person": ("person", "closed it"),
}


def printable(text: str) -> str:
    """The text without what could steer a terminal."""
    return "".join(
        char if char in _SAFE or unicodedata.category(char) not in _UNSAFE else "\N{MIDDLE DOT}"
        for char in text
    )


def moment(at: float) -> str:
    """As "2026-11-28 20:15:03.120Z"."""
    return f"{_day(at)} {_clock(at)}Z"


def age(seconds: float) -> str:
    """As "12 s", "5 min", "3 h", "2 d"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Aligned, never cut or folded: an id can be copied from it, and grep finds it."""
    lines = [tuple(heads), *(tuple(map(_one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


# --- the story of a message, a turn or an effect --------------------------------------------------


def story(told: Row, now: float) -> Iterator[str]:
    """What it is and how it stands, then everything that happened in order, with gaps in seconds.
    The shape: docs/trace.md.
    """
    yield from _heads(told, now)
    yield from _spent(told["turns"])
    for row in told["approvals"]:
        yield f"approval {row['id']}: {_approval(row)}"
    day, before = "", None
    for event in told["timeline"]:
        at = event["at"]
        if _day(at) != day:
            day = _day(at)
            yield ""
            yield f"{day} UTC"
        gap = "" if before is None else f"+{at - before:.3f}"
        before = at
        who, what = _in_words(event)
        yield f"  {_clock(at)} {gap:>11}  {who:7} {_one_line(what):52}  {event['id']}"


def _in_words(event: Row) -> tuple[str, str]:
    what, detail = event["what"], event["detail"] or ""
    if what == "registered" and detail not in {"", "claimed", "waiting"}:
        return "daemon", f"registered it: {detail}"
    who, words = _WORDS.get(what, ("daemon", f"{what}: {{detail}}"))
    return who, words.replace("{detail}", detail).removesuffix(": ")


def _heads(told: Row, now: float) -> Iterator[str]:
    if "opened_by" in told:
        yield f"conversation {_one_line(told['id'])}, {told['connector']}, {told['trust']}"
    for row in told["messages"]:
        yield f"message {row['id']}: {verdict(row, told, now)}"
        where = [
            row["connector"],
            f"outside id {row['outside_id']}",
            f"conversation {row['conversation']}" if row["conversation"] else "",
            f"heard {row['deliveries']} times" if row["deliveries"] > 1 else "",
            f"raw form in {row['raw_path']}" if row["raw_path"] else "",
        ]
        yield "  " + _one_line(", ".join(filter(None, where)))
    if not told["messages"]:
        for row in told["effects"]:
            yield f"effect {row['id']} ({row['kind']}, {row['connector']}): {_delivery(row, now)}"


def _spent(turns: Sequence[Row]) -> Iterator[str]:
    for row in turns:
        counted = [f"attempt {row['attempt']}", _count(row["model_calls"], "model call")]
        counted += [
            _count(row[f"{what}s"], what) for what in ("failure", "death") if row[f"{what}s"]
        ]
        counted += [_count(row["tokens"], "token"), f"${row['cost_usd']:.4f}"]
        yield f"turn {row['id']}: {row['state']}, {', '.join(counted)}"


def _approval(row: Row) -> str:
    tool = _one_line(row["tool"])
    if row["state"] == "pending":
        return f"{tool} waits for a person; `postroom approvals list` shows the call"
    by = f", decided by {_one_line(row['decider'])}" if row["decider"] else ""
    return f"{tool} {row['state']}{by}"


def verdict(message: Row, told: Row, now: float) -> str:
    """How a message stands, in a sentence that says what to do where something is to be done."""
    state: str = message["state"]
    if state == "waiting":
        return f"waits for its turn, for {age(now - message['registered_at'])} now"
    if state == "unidentified":
        return "waits until it is known who wrote it"
    if state in {"ignored", "left_out", "unreadable"}:
        return f"{state.replace('_', ' ')}: {_one_line(message['reason'])}"
    turn = next((row for row in told["turns"] if row["id"] == message["turn"]), None)
    if turn is None:
        return "its record is gone by age or by wish; only its key is kept"
    return _turn_stands(turn, told["effects"], message, now)


def _turn_stands(turn: Row, effects: Sequence[Row], message: Row, now: float) -> str:
    reason = _one_line(turn["reason"])
    match turn["state"]:
        case "running":
            return f"the agent is at work, for {age(now - turn['claimed_at'])} now"
        case "queued":
            due = "" if turn["not_before"] <= now else f" until {moment(turn['not_before'])}"
            return f"waits{due} for its next attempt" + (f": {reason}" if reason else "")
        case "dead" if turn["discarded_at"]:
            return f"given up on, and closed by a person: {reason}"
        case "dead":
            return f"given up on: {reason}; `postroom dead retry {turn['id']}` tries it again"
        case "lost" | "stopped" | "refused":
            return f"{turn['state']}: {reason}"
    own = [row for row in effects if row["turn"] == turn["id"]]
    late = next((row for row in own if row["state"] != "sent"), None)
    if late is not None:
        return f"worked on; {late['kind']} {late['id']} {_delivery(late, now)}"
    if not own:
        return "worked on; there was nothing to send"
    end = max(row["ended_at"] or now for row in own)
    return f"answered after {end - message['registered_at']:.1f} s"


def _delivery(effect: Row, now: float) -> str:
    reason = _one_line(effect["reason"])
    because = f": {reason}" if reason else ""
    match effect["state"]:
        case "pending" if effect["not_before"] > now:
            return f"is to be sent at {moment(effect['not_before'])}{because}"
        case "pending" | "staged" | "sending":
            return f"is {effect['state']}{because}"
        case "sent":
            return f"was sent; outside it is {effect['ref']}"
        case state if effect["discarded_at"]:
            return f"was {state}, and closed by a person{because}"
        case state:
            return f"is {state}{because}; `postroom dead retry {effect['id']}` sends it (again)"


# --- lists ----------------------------------------------------------------------------------------


def dead_letters(letters: Sequence[Row], now: float) -> Iterator[str]:
    heads = ("id", "kind", "connector", "when", "age", "reason")
    yield from columns(
        heads,
        (
            (
                row["id"],
                row.get("effect") or row["kind"],
                row["connector"],
                moment(row["at"]),
                age(now - row["at"]),
                row["reason"],
            )
            for row in letters
        ),
    )


def approvals(rows: Sequence[Row], now: float) -> Iterator[str]:
    """Each with its whole input."""
    for row in rows:
        yield f"{row['id']}  {_one_line(row['tool'])}, for {age(now - row['asked_at'])} now"
        asked = ", ".join(row["requesters"])
        where = f"in {row['conversation']}, asked for by {asked}, turn {row['turn']}"
        yield f"  {_one_line(where)}"
        yield from (f"    {line}" for line in readable(row["input"]).splitlines())


def conversations(rows: Sequence[Row], now: float) -> Iterator[str]:
    heads = ("conversation", "connector", "trust", "last", "state", "waiting", "turns", "cost")
    yield from columns(
        heads,
        (
            (
                row["id"],
                row["connector"],
                row["trust"],
                f"{age(now - row['last_at'])} ago",
                row["state"],
                str(row["waiting"]),
                str(row["turns"]),
                f"${row['cost_usd'] or 0:.4f}",
            )
            for row in rows
        ),
    )


def conversation(about: Row, said: Sequence[Row]) -> Iterator[str]:
    """Its messages and answers, oldest first."""
    yield f"{_one_line(about['id'])} ({about['connector']}, {about['trust']})"
    yield f"opened by {_one_line(about['opened_by'])} at {moment(about['created_at'])}"
    for one in said:
        yield ""
        yield f"{moment(one['at'])}  {_one_line(one['who'])}  {one['id']}"
        for line in printable(one["text"] or "(no text is kept)").splitlines():
            yield f"    {line}"


def status(told: Row) -> Iterator[str]:
    ready = "ready" if told["ready"] else "NOT ready"
    yield f"{ready}; {told['status']}; version {told['version']}; up {age(told['uptime_seconds'])}"
    yield from columns(
        ("part", "state", "age", "detail"),
        (
            (
                name,
                part["state"] + ("" if part["ready"] else ", not ready"),
                "" if part["age_seconds"] is None else f"{part['age_seconds']:.1f} s",
                "; ".join(filter(None, (part["detail"], _numbers(part["numbers"])))),
            )
            for name, part in told["components"].items()
        ),
    )
    for notice in told.get("notices", ()):
        yield f"notice: {_one_line(notice)}"


def _numbers(numbers: Row) -> str:
    return " ".join(
        f"{key}={_number(value)}"
        for key, value in numbers.items()
        if value is not None and not (key.startswith("outbox_") and value == 0)
    )


def _number(value: object) -> str:
    """A time reads as one: no other number of ours is as large."""
    return moment(value) if isinstance(value, float) and value > 1e9 else str(value)


# --- small things ---------------------------------------------------------------------------------


def _one_line(text: object) -> str:
    return printable(" ".join(str(text if text is not None else "-").split()))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _day(at: float) -> str:
    return _time(at).strftime("%Y-%m-%d")


def _clock(at: float) -> str:
    return _time(at).strftime("%H:%M:%S.%f")[:-3]


def _time(at: float) -> datetime:
    """A mail may be dated in any year: the nearest that can be told."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(9999 if at > 0 else 1, 1, 1, tzinfo=UTC)
