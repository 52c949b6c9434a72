"""A spent budget as people in a conversation see it: buttons, whose press counts, what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import texts
from daemon.budgets import Budget, Limits, Raise, Scope
from daemon.clock import DAY_SECONDS, ManualClock, next_day
from daemon.model import (
    ApprovalState,
    ConversationId,
    Decision,
    Outcome,
    Sender,
    Trust,
)
from daemon.ports import Refusal
from tests.flow import ButtonConnector, Flow, RecordingConnector

DAILY = Budget(Scope.ALL)
OFFER = texts.OFFER.format(dollars=50.0)
OPS = Sender("test:ops", "Ops", Trust.OPERATOR)
ADA = Sender("test:ada", "Ada", Trust.OPERATOR)  # who wrote the message
BOB = Sender("test:bob", "Bob", Trust.MEMBER)


def spent(root: Path, chat: RecordingConnector, clock: ManualClock | None = None) -> Flow:
    """A flow whose day is spent."""
    flow = Flow(root, clock=clock, connectors=(chat,))
    flow.limits = Limits(per_conversation=10.0, daily=50.0)
    flow.gateway.shut = Refusal(DAILY)
    return flow


async def press(
    flow: Flow, chat: ButtonConnector, by: Sender, *, which: int = 0, approve: bool = True
) -> Outcome:
    target = {"thread": "t1"}
    decision = Decision("chat", "act-1", chat.requests[which].id, approve, by, target)
    return (await flow.intake.accept(decision)).outcome


async def test_an_operator_s_press_raises_the_budget_and_the_turn_goes_on(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with spent(tmp_path, chat) as flow:
        await flow.say("hello", trust=Trust.OPERATOR)
        ((_, asked),) = await flow.answers(1)
        assert asked.startswith(f"{texts.DAILY_BUDGET} {OFFER}\n")
        assert '"budget": "daily"' in asked
        assert (await flow.ledger.counts()).approvals == 0, "nothing waits for it"
        assert await press(flow, chat, BOB) is Outcome.IGNORED
        await flow.until(lambda: chat.whispered == [texts.ONLY_OPERATORS])
        assert flow.gateway.raised == []

        assert await press(flow, chat, ADA) is Outcome.NEW, "also one who wrote the message"
        assert [text for _, text in await flow.answers(3)][1:] == [
            texts.RAISED.format(who="Ada", dollars=50.0),
            "ok",
        ]
        more = Raise(DAILY, 50.0, next_day(flow.clock.now()))
        assert flow.gateway.raised == [more]
        assert await flow.ledger.raises() == (more,)
        assert await press(flow, chat, OPS) is Outcome.IGNORED
        assert await flow.ledger.raises() == (more,), "decided once"
        decided = await flow.ledger.approval(chat.requests[0].id)
        assert decided is not None
        assert (decided.state, decided.decider) == (ApprovalState.USED, "test:ada")
        assert len(flow.agents.prompts) == 1, "no agent hears of it"


async def test_a_raise_that_is_asked_for_in_two_places_is_given_once(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with spent(tmp_path, chat) as flow:
        await flow.say("one", "t1")
        await flow.say("two", "t2")
        await flow.answers(2)
        assert await press(flow, chat, OPS, which=1) is Outcome.NEW
        await flow.answers(5)
        assert await press(flow, chat, OPS, which=0) is Outcome.IGNORED
        assert len(await flow.ledger.raises()) == 1
        await flow.until(lambda: chat.whispered == [texts.EXPIRED])


async def test_a_budget_can_be_left_as_it_is(tmp_path: Path) -> None:
    chat = ButtonConnector()
    async with spent(tmp_path, chat) as flow:
        await flow.say("hello")
        await flow.answers(1)
        assert await press(flow, chat, OPS, approve=False) is Outcome.NEW
        assert (await flow.answers(2))[1] == ("t1", texts.NOT_RAISED.format(who="Ops"))
        assert await flow.ledger.raises() == ()
        assert flow.agents.prompts == []


async def test_yesterday_s_button_raises_nothing_today(tmp_path: Path) -> None:
    chat, clock = ButtonConnector(), ManualClock()
    async with spent(tmp_path, chat, clock) as flow:
        await flow.say("hello")
        await flow.answers(1)
        await clock.advance(DAY_SECONDS)
        assert await press(flow, chat, OPS) is Outcome.IGNORED
        await flow.until(lambda: ("t1", texts.EXPIRED) in chat.outside)
        assert await flow.ledger.raises() == ()


async def test_a_conversation_that_ended_by_its_budget_is_told_once_with_the_buttons(
    tmp_path: Path,
) -> None:
    chat = ButtonConnector()
    async with spent(tmp_path, chat) as flow:
        flow.gateway.shut = Refusal(Budget(Scope.CONVERSATION, "t1"))
        await flow.say("hello")
        ((_, asked),) = await flow.answers(1)
        assert asked.startswith(texts.CONVERSATION_BUDGET)
        assert await press(flow, chat, OPS) is Outcome.NEW
        await flow.answers(2)
        assert flow.gateway.raised == [Raise(Budget(Scope.CONVERSATION, "t1"), 10.0, None)]
        await flow.say("go on")
        assert (await flow.answers(3))[2] == ("t1", "ok")
        assert await flow.ledger.ready(ConversationId("t1")) is None


@pytest.mark.parametrize("scope", [Scope.ALL, Scope.CONVERSATION])
async def test_without_buttons_the_sentence_stands_alone(tmp_path: Path, scope: Scope) -> None:
    mail = RecordingConnector()
    async with spent(tmp_path, mail) as flow:
        flow.gateway.shut = Refusal(Budget(scope, "" if scope.shared else "t1"))
        await flow.say("hello")
        told = texts.DAILY_BUDGET if scope.daily else texts.CONVERSATION_BUDGET
        assert await flow.answers(1) == [("t1", told)]
