"""The port `Ledger` under any order of events: nothing lost, nothing twice, all in order.

Hypothesis makes up days (messages, duplicates, turns, failures, deliveries, deaths of the daemon);
at the end of each the work is finished, and what left is compared with what was heard.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.clock import ManualClock
from daemon.model import ConversationId, Message, Outcome, Turn, TurnState
from daemon.ports import ClaimLimits, Ending
from tests.ledgers import IMPLEMENTATIONS, PROCESS, Implementation, Stage, post, workspace

CONVERSATIONS = ("a", "b")
FEW = ClaimLimits(messages=2)  # so that a conversation needs several turns

conversation = st.sampled_from(CONVERSATIONS)
Event = tuple[str, str]
events = st.lists(
    st.one_of(
        *[st.tuples(st.just("hear"), conversation)] * 3,
        st.tuples(st.just("hear again"), conversation),
        st.tuples(st.just("work"), conversation),
        st.tuples(st.sampled_from(["answer", "put back", "give up"]), conversation),
        st.tuples(st.just("deliver"), conversation),
        st.tuples(st.just("die"), st.just("")),
    ),
    max_size=40,
)


class Day:
    """A ledger, and beside it what a person who watched would expect."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.heard: dict[str, list[Message]] = defaultdict(list)
        self.given_up: set[str] = set()
        self.at_work: dict[str, Turn] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        self.arrived: dict[str, list[str]] = defaultdict(list)

    async def happens(self, what: str, where: str) -> None:
        ledger, turn = self.stage.ledger, self.at_work.get(where)
        match what:
            case "hear":
                message = self.stage.message(f"{where}{len(self.heard[where])}", where)
                await self.stage.hear(message)
                self.heard[where].append(message)
            case "hear again" if self.heard[where]:
                await self.stage.hear(self.heard[where][0], Outcome.DUPLICATE)
            case "work" if turn is None and await ledger.ready(ConversationId(where)):
                await self.work(where)
            case "answer" if turn is not None:
                text = " ".join(stored.message.text for stored in turn.messages)
                effect = post(f"{turn.id}/answer", where, text)
                assert await ledger.end_turn(turn.id, Ending(TurnState.DONE, text, "", (effect,)))
                del self.at_work[where]
            case "put back" if turn is not None:
                await ledger.requeue(turn.id, not_before=0, resend=False)
                del self.at_work[where]
            case "give up" if turn is not None:
                assert await ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "poison"))
                self.given_up |= {stored.message.text for stored in turn.messages}
                del self.at_work[where]
            case "deliver":
                await self.deliver(where)
            case "die":
                await self.die()

    async def work(self, where: str) -> None:
        id_, ledger = ConversationId(where), self.stage.ledger
        known = await ledger.workspace(id_)
        turn = await ledger.claim(id_, known or workspace(self.stage.root, where), FEW)
        assert turn is not None
        self.attempts[turn.id] += 1
        assert turn.attempt == self.attempts[turn.id] - 1
        await self.stage.ledger.begin_attempt(turn.id, turn.attempt + 1, PROCESS)
        self.at_work[where] = turn

    async def deliver(self, where: str) -> None:
        for effect in await self.stage.ledger.due_effects("chat", self.stage.clock.now(), 10):
            if effect.conversation == where:
                await self.stage.ledger.mark_sending(effect.id)
                self.arrived[where] += str(effect.body["text"]).split()
                await self.stage.ledger.mark_sent(effect.id, "ref")

    async def die(self) -> None:
        await self.stage.reopen()
        interrupted = await self.stage.ledger.interrupted()
        assert {turn.id for turn in interrupted} == {turn.id for turn in self.at_work.values()}
        for turn in interrupted:
            await self.stage.ledger.requeue(turn.id, not_before=0, resend=False)
        self.at_work.clear()

    async def ends(self) -> None:
        """Everything that waits is worked on, answered and delivered."""
        for where in CONVERSATIONS:
            await self.happens("answer", where)
            while await self.stage.ledger.ready(ConversationId(where)):
                await self.work(where)
                await self.happens("answer", where)
            while any(
                effect.conversation == where
                for effect in await self.stage.ledger.due_effects("chat", 9e9, 10)
            ):
                await self.deliver(where)

    def judged(self) -> None:
        for where in CONVERSATIONS:
            due = [m.text for m in self.heard[where] if m.text not in self.given_up]
            assert self.arrived[where] == due, "each once, and in order"


async def lived_through(implementation: Implementation, happenings: Sequence[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, clock = Path(folder), ManualClock()
        day = Day(Stage(implementation, root, await implementation.open(root, clock), clock))
        try:
            for what, where in happenings:
                await day.happens(what, where)
            await day.ends()
            day.judged()
        finally:
            await day.stage.ledger.close()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda each: each.name)
@given(happenings=events)
@settings(max_examples=40)
def test_whatever_happens_each_message_is_answered_once_and_in_order(
    implementation: Implementation, happenings: list[Event]
) -> None:
    asyncio.run(lived_through(implementation, happenings))
