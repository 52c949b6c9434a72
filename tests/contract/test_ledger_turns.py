"""The port `Ledger`, turns: what is ready, who claims it, how it ends, and what a death leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from daemon.errors import LedgerError, OwnershipLost
from daemon.model import (
    ConversationId,
    Outcome,
    Priority,
    Sender,
    Stop,
    Trust,
    Turn,
    TurnId,
    TurnState,
)
from daemon.ports import ClaimLimits, Ending
from tests.ledgers import LIMITS, PROCESS, Stage, post, workspace

T1 = ConversationId("t1")


def texts(turn: Turn) -> list[str]:
    return [stored.message.text for stored in turn.messages]


# --- ready ----------------------------------------------------------------------------------------


async def test_a_conversation_with_work_says_since_when_it_waits(stage: Stage) -> None:
    began = stage.clock.now()
    await stage.hear(stage.message())
    await stage.clock.advance(5)
    await stage.hear(stage.message())
    await stage.clock.advance(2)
    await stage.hear(stage.message())
    ready = await stage.ledger.ready(T1)
    assert ready is not None
    assert (ready.since, ready.latest, ready.previous) == (began, began + 7, began + 5)
    assert (ready.waiting, ready.trust, ready.settled) == (3, Trust.MEMBER, False)
    assert await stage.ledger.ready(ConversationId("unknown")) is None


async def test_all_that_is_ready_is_found_again_after_a_restart(stage: Stage) -> None:
    await stage.hear(stage.message(conversation="t1"))
    await stage.hear(stage.message(conversation="t2", priority=Priority.MAIL))
    turn = await stage.claim("t2")
    await stage.ledger.requeue(turn.id, not_before=99.0, resend=False)
    await stage.running(conversation="busy")
    await stage.reopen()
    found = {ready.id: ready for ready in await stage.ledger.all_ready()}
    assert set(found) == {"t1", "t2"}
    assert (found[ConversationId("t2")].not_before, found[ConversationId("t2")].settled) == (
        99.0,
        True,
    )
    assert found[ConversationId("t2")].priority is Priority.MAIL


# --- claim ----------------------------------------------------------------------------------------


async def test_a_claim_takes_what_waits_in_order_and_freezes_it(stage: Stage) -> None:
    await stage.hear(stage.message("one"))
    await stage.hear(stage.message("two", sender="bob"))
    turn = await stage.claim()
    await stage.hear(stage.message("three"))
    assert texts(turn) == ["one", "two"]
    assert (turn.state, turn.attempt, turn.fresh) == (TurnState.RUNNING, 0, True)
    assert turn.sender == "test:ada"
    assert await stage.ledger.turn(turn.id) == turn
    assert await stage.ledger.turn(TurnId("turn-none")) is None


async def test_one_turn_of_a_conversation_runs_at_a_time(stage: Stage) -> None:
    await stage.hear(stage.message("one"))
    turn = await stage.claim()
    await stage.hear(stage.message("two"))
    assert await stage.ledger.claim(T1, None, LIMITS) is None
    assert await stage.ledger.ready(T1) is None
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE))
    following = await stage.claim()
    assert texts(following) == ["two"]
    assert following.id != turn.id
    assert not following.fresh


async def test_of_many_claims_at_once_one_gets_the_turn(stage: Stage) -> None:
    await stage.hear(stage.message())
    spares = [workspace(stage.root, f"ws-{number}") for number in range(20)]
    turns = await asyncio.gather(*(stage.ledger.claim(T1, spare, LIMITS) for spare in spares))
    (turn,) = [turn for turn in turns if turn is not None]
    assert await stage.ledger.workspace(T1) == turn.workspace


async def test_a_turn_takes_at_most_so_many_messages_and_bytes(stage: Stage) -> None:
    for text in ("é" * 30, "é" * 30, "x"):
        await stage.hear(stage.message(text))
    first = await stage.ledger.claim(T1, workspace(stage.root), ClaimLimits(20, 100))
    assert first is not None
    assert len(first.messages) == 1, "60 bytes, and the next makes it 120"
    await stage.ledger.end_turn(first.id, Ending(TurnState.DONE))
    second = await stage.ledger.claim(T1, None, ClaimLimits(1, 1_000_000))
    assert second is not None
    assert len(second.messages) == 1


async def test_a_message_above_the_limit_is_taken_alone(stage: Stage) -> None:
    await stage.hear(stage.message("x" * 1000))
    turn = await stage.ledger.claim(T1, workspace(stage.root), ClaimLimits(20, 10))
    assert turn is not None


async def test_a_conversation_keeps_the_workspace_it_adopted(stage: Stage) -> None:
    await stage.hear(stage.message())
    assert await stage.ledger.workspace(T1) is None
    turn = await stage.claim()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE))
    await stage.hear(stage.message())
    again = await stage.ledger.claim(T1, workspace(stage.root, "ws-other"), LIMITS)
    assert again is not None
    assert again.workspace == turn.workspace == workspace(stage.root, "ws-t1")


async def test_a_claim_without_any_workspace_is_refused_and_loses_nothing(stage: Stage) -> None:
    await stage.hear(stage.message())
    with pytest.raises(LedgerError):
        await stage.ledger.claim(T1, None, LIMITS)
    ready = await stage.ledger.ready(T1)
    assert ready is not None
    assert ready.waiting == 1


async def test_what_waits_behind_an_unknown_sender_is_not_claimed(stage: Stage) -> None:
    await stage.hear(stage.message("known"))
    await stage.hear(stage.message("who?", sender="new", trust=None), Outcome.UNIDENTIFIED)
    await stage.hear(stage.message("behind"), Outcome.UNIDENTIFIED)
    turn = await stage.claim()
    assert texts(turn) == ["known"]


async def test_a_claim_whose_caller_is_cancelled_leaves_no_turn_that_nobody_runs(
    stage: Stage,
) -> None:
    await stage.hear(stage.message())
    claiming = asyncio.create_task(stage.ledger.claim(T1, workspace(stage.root), LIMITS))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    for _ in range(2):  # commits behind that of the claim, and of its being put back
        await stage.ledger.probe()
    await stage.reopen()
    assert await stage.ledger.interrupted() == ()
    ready = await stage.ledger.ready(T1)
    assert ready is not None


# --- attempts and ends ----------------------------------------------------------------------------


async def test_an_attempt_is_on_disk_with_its_process(stage: Stage) -> None:
    turn = await stage.running()
    await stage.reopen()
    kept = await stage.ledger.turn(turn.id)
    assert kept == replace(turn, attempt=1, process=PROCESS, fresh=False)


async def test_no_attempt_begins_on_a_turn_that_is_over(stage: Stage) -> None:
    turn = await stage.sent()
    with pytest.raises(LedgerError):
        await stage.ledger.begin_attempt(turn.id, 2, PROCESS)


async def test_an_end_and_its_effects_are_one(stage: Stage) -> None:
    turn = await stage.running()
    effects = (post("a", text="part 1"), post("b", text="part 2"))
    assert await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "whole", "", effects))
    assert not await stage.ledger.end_turn(turn.id, Ending(TurnState.DEAD)), "it has ended"
    kept = await stage.ledger.turn(turn.id)
    assert kept is not None
    assert kept.state is TurnState.DONE
    assert await stage.due() == ["part 1"]
    assert await stage.ledger.dead() == ()


async def test_a_queued_turn_can_be_ended_too(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.requeue(turn.id, not_before=0, resend=False)
    assert await stage.ledger.end_turn(turn.id, Ending(TurnState.STOPPED))
    assert await stage.ledger.all_ready() == ()


async def test_a_turn_put_back_waits_for_its_time_and_keeps_its_messages(stage: Stage) -> None:
    turn = await stage.running("one")
    at = stage.clock.now() + 60
    told = post("told", text="later")
    await stage.ledger.requeue(
        turn.id, not_before=at, resend=True, failed=True, told=True, effects=(told,), reason="529"
    )
    await stage.hear(stage.message("two"))
    assert await stage.due() == ["later"]
    assert await stage.ledger.claim(T1, None, LIMITS) is None
    await stage.clock.advance(61)
    again = await stage.claim()
    assert (again.id, texts(again)) == (turn.id, ["one"]), "never merged with what came later"
    assert (again.attempt, again.failures, again.told, again.resend) == (1, 1, True, True)
    assert again.process is None
    await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
    kept = await stage.ledger.turn(turn.id)
    assert kept is not None
    assert not kept.resend, "one prompt, one proof of its absence"


async def test_a_turn_that_is_over_is_not_put_back(stage: Stage) -> None:
    turn = await stage.sent()
    await stage.ledger.requeue(turn.id, not_before=0, resend=False)
    assert await stage.ledger.all_ready() == ()


# --- staged effects -------------------------------------------------------------------------------


async def test_a_staged_effect_leaves_only_with_its_turn_done(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.stage(turn.id, 1, "tool-1", post("label", text="label"))
    assert await stage.due() == []
    answer = post("answer", text="answer")
    ending = Ending(TurnState.DONE, "answer", "", (answer,), keep_staged=True)
    await stage.ledger.end_turn(turn.id, ending)
    assert await stage.due() == ["label"], "it was wanted first"


async def test_a_turn_that_ends_otherwise_takes_its_staged_effects_along(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.stage(turn.id, 1, "tool-1", post("label"))
    await stage.ledger.end_turn(turn.id, Ending(TurnState.STOPPED))
    assert await stage.due() == []
    assert (await stage.ledger.counts()).outbox["staged"] == 0


async def test_of_staged_effects_those_the_model_knows_of_stay(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.stage(turn.id, 1, "tool-1", post("known", text="known"))
    await stage.ledger.stage(turn.id, 1, "tool-2", post("cut off", text="cut off"))
    await stage.ledger.requeue(
        turn.id, not_before=0, resend=False, tools_done=frozenset({"tool-1"})
    )
    await stage.claim()
    await stage.ledger.begin_attempt(turn.id, 2, PROCESS)
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, keep_staged=True))
    assert await stage.due() == ["known"]


async def test_a_call_of_an_attempt_that_is_over_stages_nothing(stage: Stage) -> None:
    turn = await stage.running()
    with pytest.raises(LedgerError):
        await stage.ledger.stage(turn.id, 2, "tool-1", post("early"))
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE))
    with pytest.raises(LedgerError):
        await stage.ledger.stage(turn.id, 1, "tool-1", post("late"))


# --- deaths and owners ----------------------------------------------------------------------------


async def test_after_a_death_what_ran_is_handed_out_and_the_death_counted_once(
    stage: Stage,
) -> None:
    turn = await stage.running()
    await stage.sent(conversation="over")
    await stage.hear(stage.message(conversation="waiting"))
    assert await stage.ledger.interrupted() == (), "it is ours, and runs"
    await stage.reopen()
    (found,) = await stage.ledger.interrupted()
    assert (found.id, found.deaths, found.attempt, found.process) == (turn.id, 1, 1, PROCESS)
    (again,) = await stage.ledger.interrupted()
    assert again.deaths == 1, "recovery may be tried twice in one life"
    await stage.reopen()
    (later,) = await stage.ledger.interrupted()
    assert later.deaths == 2


async def test_each_daemon_has_a_higher_epoch(stage: Stage) -> None:
    first = stage.ledger.epoch
    assert (await stage.reopen()).epoch > first


async def test_an_owner_that_lost_the_ledger_writes_nothing_more(stage: Stage) -> None:
    turn = await stage.running()
    _, effect = await stage.done(conversation="t2")
    await stage.hear(stage.message(conversation="t3"))
    former, stage.ledger = (
        stage.ledger,
        await stage.implementation.usurp(stage.root, stage.clock),
    )
    try:
        for write in (
            former.claim(ConversationId("t3"), workspace(stage.root, "ws-3"), LIMITS),
            former.begin_attempt(turn.id, 2, PROCESS),
            former.stage(turn.id, 1, "tool", post("staged")),
            former.end_turn(turn.id, Ending(TurnState.DONE, "stale", "", (post("stale"),))),
            former.requeue(turn.id, not_before=0, resend=False),
            former.add_effects((post("notice"),)),
            former.mark_sending(effect.id),
            former.probe(),
            former.interrupted(),
        ):
            with pytest.raises(OwnershipLost):
                await write
        kept = await stage.ledger.turn(turn.id)
        assert kept is not None
        assert kept.state is TurnState.RUNNING
        assert await stage.due() == ["hi"]
    finally:
        await former.close()


# --- what was said --------------------------------------------------------------------------------


async def test_what_was_said_before_is_told_in_order(stage: Stage) -> None:
    await stage.done("hello", answer="hi")
    await stage.hear(stage.message("how are you?", sender="bob"))
    second = await stage.claim()
    await stage.ledger.end_turn(second.id, Ending(TurnState.DONE, "fine"))
    await stage.hear(stage.message("bye"))
    third = await stage.claim()
    assert await stage.ledger.said(T1, third.id) == (
        "Ada (test:ada, member): hello",
        "You: hi",
        "Bob (test:bob, member): how are you?",
        "You: fine",
    )
    assert await stage.ledger.said(T1, second.id) == ("Ada (test:ada, member): hello", "You: hi")


async def test_of_a_long_conversation_the_last_fifty_are_told(stage: Stage) -> None:
    for number in range(30):
        await stage.done(f"m{number}", answer=f"a{number}")
    await stage.hear(stage.message("now"))
    said = await stage.ledger.said(T1, (await stage.claim()).id)
    assert len(said) == 50
    assert said[-1] == "You: a29"


# --- called off -----------------------------------------------------------------------------------


def said_stop(conversation: ConversationId = T1, outside_id: str = "stop-1") -> Stop:
    return Stop("chat", outside_id, conversation, Sender("test:bob", "Bob", Trust.MEMBER))


async def test_stop_calls_off_what_waits_and_says_what_it_was(stage: Stage) -> None:
    await stage.hear(stage.message("one"))
    await stage.hear(stage.message("two", sender="bob"))
    await stage.hear(stage.message("elsewhere", "t2"))
    stopped = await stage.ledger.register(said_stop())
    assert [stored.message.text for stored in stopped.called_off] == ["one", "two"]
    assert await stage.ledger.ready(T1) is None
    assert await stage.ledger.claim(T1, workspace(stage.root), LIMITS) is None
    assert [ready.id for ready in await stage.ledger.all_ready()] == ["t2"]
    story = await stage.ledger.trace(stopped.called_off[0].id)
    assert story is not None
    (turn,) = cast("list[dict[str, object]]", story["turns"])
    assert turn["state"] == "stopped"


async def test_what_comes_after_a_stop_is_worked_on(stage: Stage) -> None:
    await stage.hear(stage.message("one"))
    await stage.ledger.register(said_stop())
    await stage.hear(stage.message("two"))
    turn = await stage.claim()
    assert texts(turn) == ["two"]
    again = await stage.ledger.register(said_stop())
    assert (again.outcome, again.called_off) == (Outcome.DUPLICATE, ()), "it was said before"
    assert await stage.ledger.said(T1, turn.id) == ("Ada (test:ada, member): one",), (
        "it was said, after all"
    )


async def test_stop_ends_a_turn_that_waits_and_what_waits_behind_it(stage: Stage) -> None:
    turn = await stage.running("one")
    await stage.ledger.stage(turn.id, 1, "tool-1", post("label", "t1", "never"))
    later = stage.clock.now() + 60
    await stage.ledger.requeue(turn.id, not_before=later, resend=False, reason="away")
    await stage.hear(stage.message("two"))
    called_off = await stage.ledger.call_off(T1)
    assert [stored.message.text for stored in called_off] == ["one", "two"]
    await stage.clock.advance(61)
    assert await stage.ledger.all_ready() == ()
    assert await stage.due() == [], "what it had staged goes with it"
    assert await stage.ledger.call_off(T1) == ()


async def test_stop_leaves_a_turn_that_runs_to_its_worker(stage: Stage) -> None:
    turn = await stage.running("one")
    await stage.hear(stage.message("two"))
    stopped = await stage.ledger.register(said_stop())
    assert [stored.message.text for stored in stopped.called_off] == ["two"]
    current = await stage.ledger.turn(turn.id)
    assert current is not None
    assert current.state is TurnState.RUNNING


async def test_turns_that_were_put_back_for_a_reason_are_let_go_by_it(stage: Stage) -> None:
    midnight = stage.clock.now() + 9999
    for name, reason in (("t1", "budget"), ("t2", "away")):
        turn = await stage.running("hello", name)
        await stage.ledger.requeue(turn.id, not_before=midnight, resend=False, reason=reason)
    assert await stage.ledger.release("budget") == ("t1",)
    assert await stage.ledger.claim(T1, None, LIMITS) is not None
    assert await stage.ledger.claim(ConversationId("t2"), None, LIMITS) is None
    assert await stage.ledger.release("budget") == ()
