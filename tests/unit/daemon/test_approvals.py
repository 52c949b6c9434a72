"""Approvals as people notice them: who is asked, whose word counts, what becomes of the call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import texts
from daemon.agents.scripted import Say, Step, Work
from daemon.approvals import MOST_SHOWN, WAIT_SECONDS, readable, refusal, shown
from daemon.clock import ManualClock
from daemon.ledger import read_only
from daemon.model import (
    Approval,
    ApprovalId,
    ConversationId,
    Decision,
    Outcome,
    Prompt,
    Sender,
    Stop,
    Trust,
    TurnId,
    canonical,
)
from tests.flow import ButtonConnector, Flow, RecordingConnector

BASH = ("Read", "Bash")
OPS = Sender("test:ops", "Ops", Trust.OPERATOR)


def lists(prompt: Prompt) -> Sequence[Step]:
    """An agent that makes one call in every turn."""
    return [Work("Bash", arguments={"command": "ls"}), Say("done")]


def flow_with(
    root: Path, chat: RecordingConnector, clock: ManualClock | None = None, processes: int = 2
) -> Flow:
    flow = Flow(
        root,
        clock=clock,
        connectors=(chat,),
        max_processes=processes,
        tools=BASH,
        ask=("Bash",),
    )
    flow.agents.script = lists
    return flow


async def press(
    flow: Flow, approval: ApprovalId, by: Sender = OPS, *, approve: bool = True
) -> Outcome:
    decision = Decision("chat", "act-1", approval, approve, by, {"thread": "t1"})
    return (await flow.intake.accept(decision)).outcome


async def a_minute_later(flow: Flow, clock: ManualClock) -> None:
    """The turn has begun to wait for somebody's word, and waits no more."""
    await flow.until(lambda: bool(flow.approvals._waiting))
    await clock.advance(WAIT_SECONDS)


def said(flow: Flow) -> list[str]:
    return [text for _, text in flow.chat.outside]


# --- while the turn waits ------------------------------------------------------------------------


@pytest.mark.parametrize("approve", [True, False])
async def test_the_turn_goes_on_at_once_when_somebody_has_decided(
    tmp_path: Path, approve: bool
) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
        (asked,) = chat.requests
        assert said(flow)[0] == f'{texts.ASKS.format(tool="Bash")}\n{{\n  "command": "ls"\n}}'
        assert flow.agents.worked == [], "nothing is done before"
        assert await press(flow, asked.id, approve=approve) is Outcome.NEW
        await flow.answers(3)
        word = texts.APPROVED if approve else texts.DENIED
        assert said(flow)[1:] == [word.format(who="Ops"), "done"]
        assert flow.agents.worked == ([{"command": "ls"}] if approve else [])
        assert [("denied" in reason) for reason in flow.agents.read] == [] if approve else [True]
        assert len(flow.agents.prompts) == 1
        assert await flow.ledger.approvals() == ()


async def test_what_need_not_be_asked_for_is_not(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        flow.agents.script = lambda _: [Work("Read"), Say("done")]
        await flow.say("hello")
        assert await flow.answers(1) == [("t1", "done")]
        assert chat.requests == []


async def test_a_word_that_does_not_count_is_told_to_its_giver_alone(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
        (asked,) = chat.requests
        bob = Sender("test:bob", "Bob", Trust.MEMBER)
        ada = Sender("test:ada", "Ada", Trust.OPERATOR)  # who wrote the message
        for by in (bob, ada, Sender("test:new", "?", None)):
            assert await press(flow, asked.id, by) is Outcome.IGNORED
        assert await press(flow, ApprovalId("apr-unknown")) is Outcome.IGNORED
        assert await press(flow, asked.id) is Outcome.NEW
        assert await press(flow, asked.id, bob) is Outcome.IGNORED
        other = Sender("test:eve", "Eve", Trust.OPERATOR)
        assert await press(flow, asked.id, other, approve=False) is Outcome.IGNORED
        await flow.answers(3)
        await flow.until(lambda: len(chat.whispered) == 6)
        assert chat.whispered == [
            texts.ONLY_OPERATORS,
            texts.NOT_YOUR_OWN,
            texts.ONLY_OPERATORS,
            texts.EXPIRED,
            texts.ONLY_OPERATORS,
            texts.DECIDED_ALREADY.format(who="Ops"),
        ]
        assert flow.agents.worked == [{"command": "ls"}]


async def test_a_word_that_does_not_count_is_on_record(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
        bob = Sender("test:bob", "Bob", Trust.MEMBER)
        await press(flow, chat.requests[0].id, bob)
        reading = await read_only(tmp_path)
        try:
            refused = (await reading.audit_after(0, 100))[-1]
            meant = await reading.audit_names()
        finally:
            await reading.close()
        assert (refused["what"], meant[str(refused["by"])]) == ("approval.refused", "test:bob")
        facts = dict(cast("Mapping[str, object]", refused["facts"]))
        assert (facts["approval"], facts["word"]) == (chat.requests[0].id, "approve")
        await press(flow, chat.requests[0].id)
        await flow.answers(3)


async def test_stop_ends_the_wait_and_calls_the_asking_off(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
        sender = Sender("test:bob", "Bob", Trust.MEMBER)
        await flow.intake.accept(Stop("chat", "stop", ConversationId("t1"), sender))
        await flow.answers(2)
        assert said(flow)[1] == texts.STOPPED
        assert await press(flow, chat.requests[0].id) is Outcome.IGNORED
        await flow.answers(3)
        assert said(flow)[2] == texts.EXPIRED, "the buttons go"
        assert flow.agents.worked == []


# --- when the turn is over -----------------------------------------------------------------------


async def test_after_a_minute_the_turn_ends_and_the_word_resumes_the_conversation(
    tmp_path: Path,
) -> None:
    chat, clock = ButtonConnector(), ManualClock()
    async with flow_with(tmp_path, chat, clock, processes=1) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
        await a_minute_later(flow, clock)
        await flow.answers(3)
        assert said(flow)[1:] == [texts.WAITS, "done"]
        assert "waits for a person" in flow.agents.read[0]
        (asked,) = chat.requests
        assert [asked.id in told for told in flow.told] == [True], "operators are told as well"
        await flow.say("and I?", "t2")  # the slot is free
        await flow.until(lambda: len(chat.requests) == 2)
    async with flow_with(tmp_path, chat, clock) as flow:
        assert await press(flow, asked.id) is Outcome.NEW
        await flow.until(lambda: any('"command":"ls"' in p.text for p in flow.agents.prompts))
        resumed = next(p.text for p in flow.agents.prompts if '"command":"ls"' in p.text)
        assert "| Ops (test:ops) | operator |" in resumed
        assert "approved, once: Bash" in resumed
        await flow.until(lambda: said(flow)[-1:] == ["done"] and bool(flow.agents.worked))
        assert flow.agents.worked == [{"command": "ls"}]


async def test_a_turn_waits_once_however_much_it_asks_for(tmp_path: Path) -> None:
    chat, clock = ButtonConnector(), ManualClock()
    async with flow_with(tmp_path, chat, clock) as flow:
        flow.agents.script = lambda _: [
            *(Work("Bash", arguments={"command": f"ls {n}"}) for n in range(7)),
            Say("asked"),
        ]
        await flow.say("look everywhere")
        await a_minute_later(flow, clock)
        await flow.until(lambda: said(flow)[-1:] == ["asked"])
        assert said(flow).count(texts.WAITS) == 1
        assert len(await flow.ledger.approvals()) == 5
        assert "several calls" in flow.agents.read[-1]


async def test_a_turn_that_is_cut_off_while_it_waits_asks_the_same_again(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with flow_with(tmp_path, chat) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
    async with flow_with(tmp_path, chat) as flow:
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await press(flow, chat.requests[0].id)
        await flow.until(lambda: said(flow)[-1:] == ["done"])
        assert flow.agents.worked == [{"command": "ls"}]
    assert sum(texts.ASKS.format(tool="Bash") in text for text in said(flow)) == 1


async def test_a_word_that_comes_before_the_wait_begins_is_not_waited_for(tmp_path: Path) -> None:
    chat, clock = ButtonConnector(), ManualClock()
    async with flow_with(tmp_path, chat, clock) as flow:
        await flow.say("what is there?")
        await flow.answers(1)
    async with flow_with(tmp_path, chat, clock) as flow:
        await press(flow, chat.requests[0].id)
        await flow.until(lambda: said(flow)[-1:] == ["done"])
        assert flow.agents.worked == [{"command": "ls"}]


# --- where there are no buttons ------------------------------------------------------------------


async def test_without_buttons_operators_are_told_once_and_decide_by_command(
    tmp_path: Path,
) -> None:
    mail = RecordingConnector()
    async with flow_with(tmp_path, mail) as flow:
        await flow.say("a mail")
        await flow.until(lambda: bool(flow.told))
        (waiting,) = await flow.ledger.approvals()
        assert len(flow.told) == 1
        assert str(waiting["id"]) in flow.told[0]
        assert '"command": "ls"' in flow.told[0]
        id_ = ApprovalId(str(waiting["id"]))
        assert (await flow.approvals.decide(id_, OPS, approve=True)).counted
        await flow.answers(1)
        assert flow.agents.worked == [{"command": "ls"}]


# --- what is shown, and who may ------------------------------------------------------------------


def an_approval(input_: str = "{}", tool: str = "Bash") -> Approval:
    return Approval(
        id=ApprovalId("apr-1"),
        conversation=ConversationId("t1"),
        connector="chat",
        turn=TurnId("turn-1"),
        tool=tool,
        input=input_,
        requesters=frozenset({"test:ada"}),
        asked_at=0.0,
    )


def test_a_long_input_is_cut_with_its_length_said() -> None:
    text = shown(an_approval(canonical({"command": "x" * 10_000})))
    assert text.startswith('{\n  "command": "xxx')
    assert "10,019 characters in all" in text
    assert len(text) < MOST_SHOWN + 100


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()))
def test_what_is_shown_is_the_input_and_nothing_in_it_hides(arguments: dict[str, object]) -> None:
    text = readable(canonical(arguments))
    assert json.loads(text) == arguments
    assert all(char.isprintable() or char == "\n" for char in text)


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_two_calls_are_the_same_only_with_the_same_input(
    one: dict[str, object], other: dict[str, object]
) -> None:
    digests = [an_approval(canonical(each)).digest for each in (one, other)]
    assert (digests[0] == digests[1]) is (one == other)
    backwards = dict(reversed(one.items()))
    assert an_approval(canonical(backwards)).digest == digests[0]
    assert an_approval(canonical(one), "Write").digest != digests[0]


@pytest.mark.parametrize(
    ("by", "tool", "approve", "told"),
    [
        (OPS, "Bash", True, ""),
        (Sender("test:bob", "Bob", Trust.MEMBER), "Read", True, texts.ONLY_OPERATORS),
        (Sender("test:bob", "Bob", Trust.PUBLIC), "Read", False, texts.ONLY_OPERATORS),
        (Sender("test:ada", "Ada", Trust.OPERATOR), "Bash", True, texts.NOT_YOUR_OWN),
        (Sender("test:ada", "Ada", Trust.OPERATOR), "Bash", False, ""),
        (Sender("test:ada", "Ada", Trust.OPERATOR), "Write", True, ""),
    ],
)
def test_operators_decide_and_nobody_approves_a_risky_call_of_his_own(
    by: Sender, tool: str, approve: bool, told: str
) -> None:
    assert refusal(an_approval(tool=tool), by, approve=approve) == told
