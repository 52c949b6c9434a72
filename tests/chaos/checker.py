"""The independent checker: was each message answered once, in its place, in order?

    python -I -S checker.py DIRECTORY

It shares no code with the daemon: standard library only, and it reads only what the outside saw.
`sent.jsonl` is what people wrote, `slack.jsonl` and `model.jsonl` are the stand-ins' journals,
`mails.jsonl` (where mail took part) what the receiving server got, `mailbox.jsonl` the mails in the
mailbox at the end, in its order, and what stands on them. `stops.jsonl` says when the daemon was
told to stop, and when it was gone; `again.jsonl` which prompts came to the model although it had
answered them. Each message holds marks that stand nowhere else, and its answer repeats them.
Prints a JSON object; exit 1: a rule is broken.

The rules, each with its word in the output:
    lost        a message that was wanted has no answer
    twice       a mark stands in two answers
    unasked     an answer to what was not addressed to the bot
    misplaced   an answer outside the thread that it belongs in
    disorder    A was accepted before B was first brought to the daemon; the answer to B came first
    merged      the model was given a message in two different companies: its turn was not frozen
    mixed       messages of two conversations in one prompt
    given up    the outside stopped bringing an event: it was never accepted
    unlabelled  a mail is answered, and the label that its agent put on it is not there
    asked again the model was asked for an answer that it had given already, and that was kept
    cut short   told to stop, the daemon left an answer unfinished although it had time

SMTP has no key against duplicates: where a death leaves it unknown whether a mail has arrived, the
daemon must not send it again, and must tell its operators which mail it answers. What is missing
and told of so is named and counted as `unclear`, and breaks no rule. Nor does a turn that was in
flight at ten deaths of the daemon: its thread, or of a mail its operators, who are told which one,
are told that it is set aside, and it is counted as that.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

HEAD = re.compile(r"^\[[^\n|]*\|", re.MULTILINE)
MARK = re.compile(r"mark-\d{5}[a-z]?")
SET_ASIDE = "have set it aside for the people who run me"
TOLD_SET_ASIDE = re.compile(r"turn-[0-9a-f]{32} was given up on: in flight at 10 deaths")
TOLD_UNCLEAR = re.compile(r"(eff-[0-9a-f]{32}) may or may not have arrived")
MOST_IN_A_TURN = 20
NEVER = math.inf
BOT_CALLS = ("chat.postMessage", "chat.startStream")
Json = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A message that went in. `brought` and `accepted` are numbers in the journal."""

    marks: tuple[str, ...]
    place: str
    wanted: bool
    mail: bool
    at: float
    brought: float
    accepted: float
    label: str = ""


@dataclass(frozen=True)
class Answer:
    """What came out in one piece, with its marks in order."""

    place: str
    number: int
    at: float
    marks: tuple[str, ...]


@dataclass
class History:
    sent: list[Sent] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    prompts: list[tuple[str, ...]] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)
    # What operators read: the id of an effect, and marks of the mails that it answers.
    told_unclear: dict[str, set[str]] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)  # ids of effects, out of Message-IDs
    unclear: list[str] = field(default_factory=list)  # marks of mails that are missing so
    gave_up_in: Counter[str] = field(default_factory=Counter)  # how often a place was told
    gave_up_on: list[str] = field(default_factory=list)  # a mark each, of mails, told to operators
    set_aside: list[str] = field(default_factory=list)  # marks that are missing so
    labels: set[tuple[str, str]] = field(default_factory=set)  # Message-ID, label
    again: list[str] = field(default_factory=list)  # prompts that had their answer before them
    cut_short: list[str] = field(default_factory=list)  # requests
    figures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Violation:
    rule: str
    what: str


# --- reading --------------------------------------------------------------------------------------


def lines(path: Path) -> list[Json]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read(directory: Path) -> History:
    history = History()
    slack = lines(directory / "slack.jsonl")
    _read_slack_out(slack, history)
    sent = lines(directory / "sent.jsonl")
    _read_slack_in(slack, [line for line in sent if not line.get("mail")], history)
    mailbox = lines(directory / "mailbox.jsonl")
    _read_mail(
        [line for line in sent if line.get("mail")],
        lines(directory / "mails.jsonl"),
        [mail["message_id"] for mail in mailbox],
        history,
    )
    model = lines(directory / "model.jsonl")
    _read_model(model, history)
    _read_stops(lines(directory / "stops.jsonl"), model, history)
    history.again = [" ".join(line["marks"]) for line in lines(directory / "again.jsonl")]
    history.labels = {(mail["message_id"], label) for mail in mailbox for label in mail["labels"]}
    return history


def _read_slack_out(slack: list[Json], history: History) -> None:
    """The bot's messages, each as it stood last; in the order in which they were posted."""
    posts: dict[tuple[str, str], Json] = {}
    for entry in slack:
        key = (str(entry.get("channel")), str(entry.get("ts")))
        if entry["kind"] == "post" and entry["by"] in BOT_CALLS:
            posts[key] = dict(entry)
        elif entry["kind"] == "update" and key in posts:
            posts[key]["text"] = entry["text"]
    for post in posts.values():
        marks = tuple(MARK.findall(post["text"]))
        unclear = TOLD_UNCLEAR.search(post["text"])
        aside = TOLD_SET_ASIDE.search(post["text"])
        if unclear:
            history.told_unclear.setdefault(unclear[1], set()).update(marks)
        elif aside:
            history.gave_up_on += marks[:1]
        if marks and not unclear and not aside:
            place = f"{post['channel']} {post['thread_ts']}"
            history.answers.append(Answer(place, post["n"], post["at"], marks))
        else:
            history.notices[
                re.sub(r"eff-\w+|turn-\w+", "...", post["text"]).partition(". ")[0][:70]
            ] += 1
            if SET_ASIDE in post["text"]:
                history.gave_up_in[f"{post['channel']} {post['thread_ts']}"] += 1
    history.figures["posts"] = len(posts)


def _read_slack_in(slack: list[Json], sent: list[Json], history: History) -> None:
    """When each message was first brought to the daemon, and when it was first acknowledged."""
    brought: dict[str, int] = {}
    accepted: dict[str, int] = {}
    events: dict[tuple[str, str], list[str]] = {}
    said_at: dict[tuple[str, str], float] = {}
    for entry in slack:
        kind = entry["kind"]
        if kind == "event" and entry["subtype"] is None:
            key = (entry["channel"], entry["ts"])
            events.setdefault(key, []).append(entry["event_id"])
        elif kind == "delivery" and entry["socket"] is not None:
            history.figures["deliveries"] += 1
            history.figures["redeliveries"] += entry["event_id"] in brought
            brought.setdefault(entry["event_id"], entry["n"])
        elif kind == "ack":
            history.figures["acks lost"] += bool(entry["dropped"])
            accepted.setdefault(entry["event_id"], entry["n"])
        elif kind == "gave_up":
            history.given_up.append(entry["event_id"])
        elif kind == "post" and entry["by"] == "human":
            said_at[entry["channel"], entry["ts"]] = entry["at"]
    for line in sent:
        ids = [event for ts in line["ts"] for event in events.get((line["channel"], ts), ())]
        history.sent.append(
            Sent(
                marks=tuple(line["marks"]),
                place=f"{line['channel']} {line['thread']}",
                wanted=line["wanted"],
                mail=False,
                at=said_at[line["channel"], line["ts"][0]],
                brought=min((brought[e] for e in ids if e in brought), default=NEVER),
                accepted=min((accepted[e] for e in ids if e in accepted), default=NEVER),
            )
        )


def _read_mail(sent: list[Json], mails: list[Json], mailbox: list[str], history: History) -> None:
    """The order to keep is that of the mailbox, which is not always the one in which it was filled:
    Dovecot has numbered two mails of one second the other way round (seen at a high load).
    """
    uids = {message_id: at for at, message_id in reversed(list(enumerate(mailbox)))}
    for line in sent:
        lies = uids.get(f"<{line['marks'][0]}@example.com>", NEVER) if mailbox else line["n"]
        history.sent.append(
            Sent(
                marks=tuple(line["marks"]),
                place=f"mail {line['thread']}",
                wanted=line["wanted"],
                mail=True,
                at=line["at"],
                brought=lies,
                accepted=lies + 0.5,
                label=line.get("label", ""),
            )
        )
    for mail in mails:
        place = f"mail {(mail['references'] or ['outside any thread'])[0]}"
        marks = tuple(MARK.findall(mail["text"]))
        history.answers.append(Answer(place, mail["n"], mail["at"], marks))
        history.arrived.add(mail["message_id"].strip("<>").partition("@")[0])
    history.figures["mails sent"] = len(mails)


def _read_model(model: list[Json], history: History) -> None:
    for entry in model:
        if entry["kind"] == "request" and entry["texts"]:
            marks = _asked(entry)
            if marks:
                history.prompts.append(marks)


def _asked(request: Json) -> tuple[str, ...]:
    """The marks of its messages. What the prompt tells of what was said before, as there is no
    other memory of it, stands before the head of the first.
    """
    prompt = request["texts"][-1]
    head = HEAD.search(prompt)
    return tuple(MARK.findall(prompt[head.start() :] if head else prompt))


def _read_stops(stops: list[Json], model: list[Json], history: History) -> None:
    """A request that we cut off between SIGTERM and the end, while the drain had time left."""
    asked = {
        entry["number"]: " ".join(_asked(entry))
        for entry in model
        if entry["kind"] == "request" and entry["texts"]
    }
    cut = [entry for entry in model if entry.get("outcome") == "cut by the client"]
    for stop in stops:
        in_time = stop["gone"] - stop["told"] < stop["drain"]
        history.cut_short += [
            asked[entry["number"]]
            for entry in cut
            if in_time and stop["told"] < entry["at"] < stop["gone"] and asked.get(entry["number"])
        ]
        history.figures["drains judged"] += in_time


# --- judging --------------------------------------------------------------------------------------


def judge(history: History) -> list[Violation]:
    found = [Violation("given up", event) for event in history.given_up]
    history.unclear = _unclear(history)
    history.set_aside = _set_aside(history)
    found += _answers(history)
    found += _order(history)
    found += _companies(history)
    found += _labels(history)
    found += [Violation("asked again", marks) for marks in history.again]
    found += [Violation("cut short", marks) for marks in history.cut_short]
    return found


def _unclear(history: History) -> list[str]:
    """The marks of mails that did not arrive, and of whose ending operators were told.

    A notice names one of the mails of its turn, and stands for all of that turn.
    """
    answered = {mark for answer in history.answers for mark in answer.marks}
    missing = {
        mark
        for sent in history.sent
        for mark in sent.marks
        if sent.wanted and sent.mail and mark not in answered
    }
    silent = history.told_unclear.keys() - history.arrived
    named = {mark for effect in silent for mark in history.told_unclear[effect]}
    turns = [prompt for prompt in history.prompts if named.intersection(prompt)]
    history.figures["mails unclear, arrived"] = len(history.told_unclear) - len(silent)
    history.figures["mails unclear, missing"] = len(silent)
    return sorted(missing.intersection(mark for prompt in turns for mark in prompt))


def _set_aside(history: History) -> list[str]:
    """The marks of turns that were given up on, where their thread was told once for each; of mail
    nobody is told outside, and operators read one of its marks.
    """
    mails = {mark: sent.place for sent in history.sent if sent.mail for mark in sent.marks}
    told_of = history.gave_up_in + Counter(mails[m] for m in history.gave_up_on if m in mails)
    answered = {mark for answer in history.answers for mark in answer.marks}
    found: list[str] = []
    for place, told in told_of.items():
        missing = {
            mark
            for sent in history.sent
            for mark in sent.marks
            if sent.place == place and sent.wanted and mark not in answered
        }
        turns = {prompt for prompt in history.prompts if missing.intersection(prompt)}
        if len(turns) > told:
            continue
        asked = missing.intersection(mark for prompt in turns for mark in prompt)
        never = missing - asked  # of turns that were set aside before they came to the model
        found += sorted(asked)
        if len(never) <= (told - len(turns)) * MOST_IN_A_TURN:
            found += sorted(never)
    return found


def _answers(history: History) -> list[Violation]:
    found: list[Violation] = []
    answers: dict[str, list[Answer]] = {}
    for answer in history.answers:
        for mark in answer.marks:
            answers.setdefault(mark, []).append(answer)
    for sent in history.sent:
        for mark in sent.marks:
            got = answers.get(mark, [])
            if sent.wanted and not got and mark in (*history.unclear, *history.set_aside):
                continue
            if sent.wanted and not got:
                how = "never acknowledged" if sent.accepted == NEVER else "acknowledged"
                found.append(Violation("lost", f"{mark} in {sent.place} ({how})"))
            elif not sent.wanted and got:
                found.append(Violation("unasked", f"{mark} in {got[0].place}"))
            elif len(got) > 1:
                found.append(Violation("twice", f"{mark}: {len(got)} answers in {sent.place}"))
            found += [
                Violation("misplaced", f"{mark} of {sent.place} answered in {answer.place}")
                for answer in got
                if sent.wanted and answer.place != sent.place
            ]
    return found


def _order(history: History) -> list[Violation]:
    """Only pairs whose order the outside can know: accepted before the other was ever brought."""
    position: dict[str, tuple[int, int]] = {}
    for answer in history.answers:
        for index, mark in enumerate(answer.marks):
            position.setdefault(mark, (answer.number, index))
    found: list[Violation] = []
    for sent in history.sent:  # the parts of one long answer
        places = [position[mark] for mark in sent.marks if mark in position]
        if places != sorted(places):
            found.append(Violation("disorder", f"{' '.join(sent.marks)} in {sent.place}"))
    for first, second in _known_order(history):
        if first.marks[-1] not in position or second.marks[0] not in position:
            continue
        history.figures["ordered pairs"] += 1
        if position[first.marks[-1]] > position[second.marks[0]]:
            what = f"{second.marks[0]} before {first.marks[0]} in {first.place}"
            found.append(Violation("disorder", what))
    return found


def _known_order(history: History) -> Iterator[tuple[Sent, Sent]]:
    together: dict[str, list[Sent]] = {}
    for sent in history.sent:
        if sent.wanted:
            together.setdefault(sent.place, []).append(sent)
    for messages in together.values():
        for first, second in permutations(messages, 2):
            if first.accepted < second.brought:
                yield first, second


def _companies(history: History) -> list[Violation]:
    """A turn's messages are frozen: whenever one of them is asked again, all are, and no other."""
    found: list[Violation] = []
    place = {mark: sent.place for sent in history.sent for mark in sent.marks}
    company: dict[str, tuple[str, ...]] = {}
    attempts: Counter[tuple[str, ...]] = Counter()
    for prompt in history.prompts:
        attempts[prompt] += 1
        if len({place.get(mark) for mark in prompt}) > 1:
            found.append(Violation("mixed", " ".join(prompt)))
        for mark in prompt:
            if company.setdefault(mark, prompt) != prompt:
                what = f"{mark} with {' '.join(company[mark])}, then with {' '.join(prompt)}"
                found.append(Violation("merged", what))
                break
    history.figures["turns"] = len(attempts)
    history.figures["model requests"] = sum(attempts.values())
    history.figures["largest turn"] = max(map(len, attempts), default=0)
    return found


def _labels(history: History) -> list[Violation]:
    """A mail's Message-ID is its mark: `sent.jsonl` says which label its agent was to put on."""
    answered = {mark for answer in history.answers for mark in answer.marks}
    due = [sent for sent in history.sent if sent.label and answered.issuperset(sent.marks)]
    history.figures["labels"] = len(due)
    return [
        Violation("unlabelled", f"{sent.marks[0]} in {sent.place}")
        for sent in due
        if (f"<{sent.marks[0]}@example.com>", sent.label) not in history.labels
    ]


def figures(history: History) -> Json:
    """What the history holds, so that a reader can see how much was checked."""
    wanted = [sent for sent in history.sent if sent.wanted]
    at = {mark: answer.at for answer in history.answers for mark in answer.marks}
    waits = sorted(round(at[s.marks[-1]] - s.at, 1) for s in wanted if s.marks[-1] in at)
    return {
        "messages": len(wanted),
        "not for the bot": len(history.sent) - len(wanted),
        "conversations": len({sent.place for sent in wanted}),
        "answers": len(history.answers),
        **dict(sorted(history.figures.items())),
        "unclear": history.unclear,
        "set aside": history.set_aside,
        "notices": dict(history.notices),
        "answered after, s": waits,
    }


def main(directory: Path) -> int:
    history = read(directory)
    violations = judge(history)
    told = {
        "figures": figures(history),
        "violations": [[violation.rule, violation.what] for violation in violations],
    }
    sys.stdout.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
