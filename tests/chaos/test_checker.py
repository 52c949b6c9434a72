"""The checker itself: each rule is broken once, in a history that is otherwise sound."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.run import CHECKER

Json = dict[str, Any]


@dataclass
class Journals:
    """A history as the stand-ins write it; `n` numbers the journal of Slack."""

    directory: Path
    slack: list[Json] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    model: list[Json] = field(default_factory=list)
    mails: list[Json] = field(default_factory=list)
    mailbox: list[Json] = field(default_factory=list)
    stops: list[Json] = field(default_factory=list)
    again: list[Json] = field(default_factory=list)

    def write(self, kind: str, **facts: Any) -> None:
        number = len(self.slack) + 1
        self.slack.append({"n": number, "at": float(number), "kind": kind, **facts})

    def say(self, mark: str, *, thread: str = "1.0", wanted: bool = True) -> None:
        where = {"channel": "C1", "ts": f"ts-{mark}"}
        self.write("post", by="human", text=mark, thread_ts=thread, **where)
        self.write("event", event_id=f"Ev-{mark}", subtype=None, **where)
        self.sent.append(
            {
                "marks": [mark],
                "channel": "C1",
                "thread": thread,
                "ts": [where["ts"]],
                "wanted": wanted,
            }
        )

    def bring(self, mark: str) -> None:
        self.write("delivery", event_id=f"Ev-{mark}", socket=1)

    def acknowledge(self, mark: str) -> None:
        self.write("ack", event_id=f"Ev-{mark}", dropped=False)

    def accept(self, mark: str, **how: Any) -> None:
        self.say(mark, **how)
        self.bring(mark)
        self.acknowledge(mark)

    def ask(self, *marks: str, said_before: str = "") -> None:
        texts = ["an earlier attempt", f"{said_before}[slack | somebody]\n{' '.join(marks)}"]
        number = len(self.model) + 1
        self.model.append({"kind": "request", "number": number, "texts": texts})

    def cut_off(self, at: float) -> None:
        """The request that came last."""
        outcome = {"number": len(self.model), "outcome": "cut by the client", "at": at}
        self.model.append({"kind": "end", **outcome})

    def stop(self, *, told: float, gone: float) -> None:
        self.stops.append({"told": told, "gone": gone, "drain": 20.0, "status": 0})

    def answer(self, *marks: str, thread: str = "1.0") -> None:
        where = {"channel": "C1", "ts": f"answer-{len(self.slack)}", "thread_ts": thread}
        self.write("post", by="chat.postMessage", text=" ".join(marks), **where)

    def write_mail(self, mark: str, label: str = "") -> None:
        line = {"n": len(self.sent), "at": 0.0, "marks": [mark], "thread": "<root@x>"}
        self.sent.append({**line, "mail": True, "wanted": True, "label": label})

    def label(self, mark: str, *labels: str) -> None:
        self.mailbox.append({"message_id": f"<{mark}@example.com>", "labels": labels})

    def mail(self, *marks: str, effect: str = "0" * 32) -> None:
        line = {"n": len(self.mails), "at": 1.0, "text": " ".join(marks)}
        threaded = {"message_id": f"<eff-{effect}@example.com>", "references": ["<root@x>"]}
        self.mails.append({**line, **threaded})

    def tell_unclear(self, effect: str, mark: str) -> None:
        told = f"eff-{effect} may or may not have arrived; it is not sent again."
        self.answer(f"{told} It is the answer on the mail `{mark}@example.com`.", thread="")

    def rules_broken(self) -> set[str]:
        for name in ("slack", "sent", "model", "mails", "mailbox", "stops", "again"):
            lines = "".join(json.dumps(line) + "\n" for line in getattr(self, name))
            (self.directory / f"{name}.jsonl").write_text(lines)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(CHECKER), str(self.directory)],
            capture_output=True,
            check=False,
        )
        broken = {rule for rule, _ in json.loads(done.stdout)["violations"]}
        assert done.returncode == bool(broken)
        return broken


ONE, TWO, THREE = "mark-00001", "mark-00002", "mark-00003"


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path)


def test_a_message_that_is_answered_once_in_its_thread_breaks_no_rule(journals: Journals) -> None:
    journals.accept(ONE)
    journals.ask(ONE)
    journals.answer(ONE)
    assert journals.rules_broken() == set()


def test_an_answer_that_takes_several_messages_at_once_is_fine(journals: Journals) -> None:
    journals.accept(ONE)
    journals.accept(TWO)
    journals.ask(ONE, TWO)
    journals.ask(ONE, TWO)  # a death came between; the same messages were asked again
    journals.answer(ONE, TWO)
    assert journals.rules_broken() == set()


def test_an_accepted_message_without_an_answer_is_lost(journals: Journals) -> None:
    journals.accept(ONE)
    assert journals.rules_broken() == {"lost"}


def test_two_answers_to_one_message_are_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.answer(ONE)
    journals.answer(ONE)
    assert journals.rules_broken() == {"twice"}


def test_a_message_that_stands_twice_in_one_answer_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.answer(ONE, ONE)
    assert journals.rules_broken() == {"twice"}


def test_an_answer_to_what_was_not_for_the_bot_is_seen(journals: Journals) -> None:
    journals.accept(ONE, wanted=False)
    journals.answer(ONE)
    assert journals.rules_broken() == {"unasked"}


def test_an_answer_in_another_thread_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.answer(ONE, thread="2.0")
    assert journals.rules_broken() == {"misplaced"}


def test_answers_in_another_order_than_that_of_acceptance_are_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.accept(TWO)
    journals.answer(TWO)
    journals.answer(ONE)
    assert journals.rules_broken() == {"disorder"}


def test_another_order_within_one_answer_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.accept(TWO)
    journals.answer(TWO, ONE)
    assert journals.rules_broken() == {"disorder"}


def test_messages_on_their_way_at_the_same_time_have_no_order_to_keep(journals: Journals) -> None:
    journals.say(ONE)
    journals.say(TWO)
    journals.bring(ONE)
    journals.bring(TWO)
    journals.acknowledge(TWO)
    journals.acknowledge(ONE)
    journals.answer(TWO)
    journals.answer(ONE)
    assert journals.rules_broken() == set()


def test_an_event_that_came_again_keeps_the_place_of_its_first_acceptance(
    journals: Journals,
) -> None:
    journals.accept(ONE)
    journals.accept(TWO)
    journals.bring(ONE)
    journals.acknowledge(ONE)
    journals.answer(TWO)
    journals.answer(ONE)
    assert journals.rules_broken() == {"disorder"}


def test_a_turn_whose_messages_changed_between_attempts_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.ask(ONE)
    journals.accept(TWO)
    journals.ask(ONE, TWO)
    journals.answer(ONE, TWO)
    assert journals.rules_broken() == {"merged"}


def test_messages_of_two_conversations_in_one_prompt_are_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.accept(THREE, thread="3.0")
    journals.ask(ONE, THREE)
    journals.answer(ONE)
    journals.answer(THREE, thread="3.0")
    assert journals.rules_broken() == {"mixed"}


def test_an_event_that_the_outside_gave_up_bringing_is_seen(journals: Journals) -> None:
    journals.say(ONE)
    journals.bring(ONE)
    journals.write("gave_up", event_id=f"Ev-{ONE}", reason="timeout")
    assert journals.rules_broken() == {"lost", "given up"}


def test_a_mail_that_is_answered_once_breaks_no_rule(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.ask(ONE)
    journals.mail(ONE)
    assert journals.rules_broken() == set()


def test_a_mail_that_is_answered_twice_is_seen(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.mail(ONE)
    journals.mail(ONE)
    assert journals.rules_broken() == {"twice"}


def test_mails_are_answered_in_the_order_of_the_mailbox(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.write_mail(TWO)
    journals.mail(TWO)
    journals.mail(ONE)
    assert journals.rules_broken() == {"disorder"}


@pytest.mark.parametrize(("answered", "broken"), [((TWO, ONE), set()), ((ONE, TWO), {"disorder"})])
def test_the_mailbox_s_own_order_counts_where_it_is_not_that_of_writing(
    journals: Journals, answered: tuple[str, str], broken: set[str]
) -> None:
    for mark in (ONE, TWO):
        journals.write_mail(mark)
    for mark in (TWO, ONE):
        journals.label(mark)
    journals.mail(*answered)
    assert journals.rules_broken() == broken


def test_a_missing_answer_by_mail_that_people_were_told_of_is_not_lost(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.write_mail(TWO)
    journals.ask(ONE, TWO)
    journals.tell_unclear("a" * 32, TWO)
    assert journals.rules_broken() == set()


def test_a_notice_of_a_mail_that_has_arrived_excuses_no_other(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.ask(ONE)
    journals.mail(ONE, effect="a" * 32)
    journals.write_mail(TWO)
    journals.ask(TWO)
    journals.tell_unclear("a" * 32, ONE)
    assert journals.rules_broken() == {"lost"}


def test_a_notice_of_a_mail_that_is_missing_excuses_no_other(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.ask(ONE)
    journals.write_mail(TWO)
    journals.ask(TWO)
    journals.tell_unclear("a" * 32, ONE)
    assert journals.rules_broken() == {"lost"}


GAVE_UP = "I couldn't finish this one and have set it aside for the people who run me."


def test_a_turn_that_its_thread_was_told_is_set_aside_is_not_lost(journals: Journals) -> None:
    journals.accept(ONE)
    journals.ask(ONE)
    journals.answer(GAVE_UP)
    assert journals.rules_broken() == set()


def test_one_notice_in_a_thread_excuses_one_turn(journals: Journals) -> None:
    for mark in (ONE, TWO):
        journals.accept(mark)
        journals.ask(mark)
    journals.answer(GAVE_UP)
    assert journals.rules_broken() == {"lost"}


def test_a_turn_that_was_set_aside_before_the_model_was_asked_is_not_lost(
    journals: Journals,
) -> None:
    journals.accept(ONE)
    journals.answer(GAVE_UP)
    journals.accept(TWO)
    journals.ask(TWO, said_before=f"This is what was said before:\n\nSomebody: {ONE}\n\n")
    journals.ask(TWO)
    journals.answer(TWO)
    assert journals.rules_broken() == set()


TOLD_OPERATORS = f"turn-{'a' * 32} was given up on: in flight at 10 deaths of the daemon."


def test_a_mail_that_operators_were_told_is_set_aside_is_not_lost(journals: Journals) -> None:
    journals.write_mail(ONE)
    journals.ask(ONE)
    journals.answer(f"{TOLD_OPERATORS} It was asked in `{ONE}@example.com`.", thread="")
    assert journals.rules_broken() == set()


def test_a_notice_to_operators_excuses_one_turn_by_mail(journals: Journals) -> None:
    for mark in (ONE, TWO):
        journals.write_mail(mark)
        journals.ask(mark)
    journals.answer(f"{TOLD_OPERATORS} It was asked in `{ONE}@example.com`.", thread="")
    assert journals.rules_broken() == {"lost"}


def test_a_label_that_stands_on_its_mail_breaks_no_rule(journals: Journals) -> None:
    journals.write_mail(ONE, label="seen-00001")
    journals.mail(ONE)
    journals.label(ONE, "urgent", "seen-00001")
    assert journals.rules_broken() == set()


def test_a_label_that_is_not_on_its_mail_is_seen(journals: Journals) -> None:
    journals.write_mail(ONE, label="seen-00001")
    journals.mail(ONE)
    journals.label(ONE)
    journals.label(TWO, "seen-00001")
    assert journals.rules_broken() == {"unlabelled"}


def test_an_answer_that_was_asked_for_again_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.answer(ONE)
    journals.again.append({"marks": [ONE]})
    assert journals.rules_broken() == {"asked again"}


def test_an_answer_that_a_stop_cut_short_is_seen(journals: Journals) -> None:
    journals.accept(ONE)
    journals.ask(ONE)
    journals.cut_off(at=11.0)
    journals.stop(told=10.0, gone=12.0)
    journals.answer(ONE)
    assert journals.rules_broken() == {"cut short"}


@pytest.mark.parametrize(("told", "gone"), [(10.0, 31.0), (12.0, 13.0)])
def test_what_a_drain_had_no_time_for_or_was_cut_off_before_it_is_no_fault_of_the_stop(
    journals: Journals, told: float, gone: float
) -> None:
    journals.accept(ONE)
    journals.ask(ONE)
    journals.cut_off(at=11.0)
    journals.stop(told=told, gone=gone)
    journals.answer(ONE)
    assert journals.rules_broken() == set()


def test_the_checker_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse(CHECKER.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
