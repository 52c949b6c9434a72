"""What people hear of budgets, and what an operator's addition does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon import texts
from daemon.budgeting import Budgeting
from daemon.budgets import Budget, Limits, Raise, Scope
from daemon.clock import DAY_SECONDS, next_day
from daemon.endings import why_refused
from daemon.gateway import Nearing
from daemon.model import ConversationId, Turn
from tests.integration.gateway_help import turn
from tests.ledgers import Stage, new_stage

TALK = Budget(Scope.CONVERSATION, "slack:T1:C1:1.1")


@dataclass
class Office:
    """Budgeting over a ledger, and what came of it."""

    stage: Stage
    limits: Limits = field(default_factory=lambda: Limits(per_conversation=10.0, daily=50.0))
    added: list[Raise] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    said: list[tuple[str, str, str]] = field(default_factory=list)
    asked: list[tuple[Raise, str, str]] = field(default_factory=list)
    woken: list[ConversationId] = field(default_factory=list)
    buttons: bool = False

    def __post_init__(self) -> None:
        self.budgeting = Budgeting(
            ledger=self.stage.ledger,
            clock=self.stage.clock,
            limits=lambda: self.limits,
            add=self.added.append,
            tell=self._tell,
            say=self._say,
            ask=self._ask,
            wake=self.woken.append,
        )

    async def _tell(self, key: str, text: str, aside: str = "") -> None:
        self.told.append((key, text))

    async def _say(self, turn: Turn, text: str, key: str, *, once: str) -> None:
        self.said.append((text, key, once))

    async def _ask(self, turn: Turn, more: Raise, text: str, key: str) -> bool:
        if self.buttons:
            self.asked.append((more, text, key))
        return self.buttons


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with new_stage(tmp_path) as stage:
        yield Office(stage)


async def test_operators_hear_of_it_with_the_sum_and_what_to_type(office: Office) -> None:
    await office.budgeting.tell(Nearing(Budget(Scope.ALL), 0.75, 38.4, 50.0, turn()))
    await office.budgeting.tell(Nearing(Budget(Scope.ALL), 1.0, 49.9, 50.0, turn()))
    mend = "`postroom budgets raise daily DOLLARS` adds to it"
    assert [text for _, text in office.told] == [
        f"the budget daily is spent to 75 %: $38.40 of $50.00; {mend}",
        f"the budget daily is spent: $49.90 of $50.00; {mend}",
    ]
    assert office.said == []


async def test_a_conversation_is_told_in_its_thread_and_once_for_ever(office: Office) -> None:
    await office.budgeting.tell(Nearing(TALK, 0.95, 9.6, 10.0, turn()))
    await office.stage.clock.advance(DAY_SECONDS)
    await office.budgeting.tell(Nearing(TALK, 0.95, 9.6, 10.0, turn()))
    assert len(set(office.said)) == len({key for key, _ in office.told}) == 1
    assert office.said[0][0] == texts.NEAR_BUDGET.format(percent=95)
    await office.budgeting.tell(Nearing(TALK, 1.0, 10.0, 10.0, turn()))
    assert len(office.said) == len(office.told) == 2, "its end is told by the turn that it ends"


async def test_a_warning_comes_with_the_buttons_where_there_are_some(office: Office) -> None:
    office.buttons = True
    await office.budgeting.tell(Nearing(TALK, 0.95, 9.6, 10.0, turn()))
    ((more, text, key),) = office.asked
    assert more == Raise(TALK, 10.0, None), "as much again, for good"
    assert text == texts.NEAR_BUDGET.format(percent=95)
    assert key == f"{TALK}/10.00/95"
    assert office.said == []


async def test_a_day_s_budget_is_offered_for_that_day_and_a_turn_s_is_not(office: Office) -> None:
    office.buttons = True
    assert await office.budgeting.offer(turn(), Budget(Scope.ALL), "spent", "key")
    assert office.asked[0][0] == Raise(Budget(Scope.ALL), 50.0, next_day(office.stage.clock.now()))
    assert not await office.budgeting.offer(turn(), Budget(Scope.TURN, "turn-1"), "spent", "key")
    assert not await office.budgeting.offer(turn(), Budget(Scope.PUBLIC), "spent", "key")
    assert len(office.asked) == 1, "what has no limit cannot be raised"


async def test_a_day_is_told_of_anew(office: Office) -> None:
    for _ in range(2):
        await office.budgeting.tell(Nearing(Budget(Scope.ALL), 0.75, 38.4, 50.0, turn()))
        await office.stage.clock.advance(DAY_SECONDS)
    assert len({key for key, _ in office.told}) == 2


async def test_more_for_today_is_recorded_and_lets_go_who_waits_for_it(office: Office) -> None:
    waits = await office.stage.running(conversation="t1")
    other = await office.stage.running(conversation="t2")
    tomorrow = next_day(office.stage.clock.now())
    for put_back, scope in ((waits, Scope.ALL), (other, Scope.SENDER)):
        await office.stage.ledger.requeue(
            put_back.id, not_before=tomorrow, resend=False, reason=why_refused(scope)
        )
    told = await office.budgeting.raise_one("daily", 20.0, None)
    assert told == {"budget": "daily", "dollars": 20.0, "until": tomorrow}
    assert office.added == [Raise(Budget(Scope.ALL), 20.0, tomorrow)]
    assert await office.stage.ledger.raises() == tuple(office.added)
    assert office.woken == ["t1"]


async def test_more_for_a_conversation_is_for_good(office: Office) -> None:
    told = await office.budgeting.raise_one(str(TALK), 5.0, None)
    assert told["until"] is None


@pytest.mark.parametrize(
    ("name", "until", "why"),
    [
        ("public_daily", None, "public_daily has no limit"),
        ("daily", 1.0, "that time is over"),
        ("per_turn:x", None, "ends with the turn"),
    ],
)
async def test_what_cannot_be_raised_is_told_and_nothing_is_recorded(
    office: Office, name: str, until: float | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await office.budgeting.raise_one(name, 5.0, until)
    assert await office.stage.ledger.raises() == ()
    assert office.added == []
