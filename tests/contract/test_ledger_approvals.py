"""The port `Ledger`, approvals: one word on a call, by one person, for one use; and never lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.budgets import Budget, Raise, Scope
from daemon.errors import LedgerError
from daemon.model import (
    RAISE,
    Approval,
    ApprovalId,
    ApprovalState,
    ConversationId,
    EffectKind,
    Sender,
    Trust,
    Turn,
    TurnState,
    Verdict,
    canonical,
    new_approval_id,
    offer_id,
)
from daemon.ports import Ending
from tests.contract.test_ledger_people import PLANTED, happened, retain, rows, still_there
from tests.ledgers import PROCESS, Stage, post

T1 = ConversationId("t1")
ADA = Sender("test:ada", "Ada", Trust.OPERATOR)
BOB = Sender("test:bob", "Bob", Trust.OPERATOR)
YES = Verdict(approved=True, by=ADA, words="approved: make it now")
NO = Verdict(approved=False, by=BOB, words="denied: make it not")
DONE = Ending(TurnState.DONE, "I have asked.")


def call(turn: Turn, command: str = "ls", tool: str = "Bash") -> Approval:
    return Approval(
        id=new_approval_id(),
        conversation=turn.conversation,
        connector=turn.connector,
        turn=turn.id,
        tool=tool,
        input=f'{{"command":"{command}"}}',
        requesters=frozenset(stored.message.sender.id for stored in turn.messages),
        asked_at=0.0,
    )


async def asked(stage: Stage, turn: Turn, command: str = "ls") -> Approval:
    """An approval that is pending, with the post that shows it."""
    wanted = call(turn, command)
    request = post(f"{wanted.id}/asked", turn.conversation, "?", kind=EffectKind.REQUEST)
    known = await stage.ledger.request(wanted, (request,))
    assert known is not None
    assert known.state is ApprovalState.PENDING
    return known


async def state(stage: Stage, approval: Approval) -> ApprovalState:
    found = await stage.ledger.approval(approval.id)
    assert found is not None
    return found.state


async def waiting(stage: Stage) -> list[tuple[str, str]]:
    """The messages of the conversation's next turn: who, and what."""
    ready = await stage.ledger.ready(T1)
    if ready is None:
        return []
    turn = await stage.claim()
    return [(stored.message.sender.id, stored.message.text) for stored in turn.messages]


# --- asking --------------------------------------------------------------------------------------


async def test_an_approval_and_the_post_that_shows_it_are_written_together(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    await stage.reopen()
    assert await stage.ledger.approval(approval.id) == replace(approval, asked_at=stage.clock.now())
    assert await stage.due() == ["?"], "it goes out while its turn runs"
    assert (await stage.ledger.counts()).approvals == 1
    (told,) = await stage.ledger.approvals()
    assert (told["id"], told["input"]) == (approval.id, approval.input)
    assert told["requesters"] == ["test:ada"]


async def test_only_a_turn_that_runs_can_ask(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.end_turn(turn.id, DONE)
    with pytest.raises(LedgerError):
        await stage.ledger.request(call(turn), ())
    assert (await stage.ledger.counts()).approvals == 0


async def test_the_same_call_again_is_the_same_approval_and_another_is_not(stage: Stage) -> None:
    turn = await stage.running()
    first = await asked(stage, turn)
    assert (await asked(stage, turn)).id == first.id
    assert (await asked(stage, turn, "ls -a")).id != first.id
    assert (await stage.ledger.counts()).approvals == 2


async def test_a_later_turn_that_asks_the_same_waits_for_the_same_word(stage: Stage) -> None:
    turn = await stage.running()
    first = await asked(stage, turn)
    await stage.ledger.end_turn(turn.id, DONE)
    await stage.hear(stage.message("please?", sender="bob"))
    later = await stage.claim()
    again = await asked(stage, later)
    assert (again.id, again.turn) == (first.id, later.id)
    assert again.requesters == {"test:ada", "test:bob"}, "whoever asked may not approve it"
    assert await stage.ledger.approval(first.id) == replace(again, asked_at=stage.clock.now())


async def test_what_too_many_wait_for_is_not_asked(stage: Stage) -> None:
    turn = await stage.running()
    for number in range(5):
        await asked(stage, turn, f"ls {number}")
    assert await stage.ledger.request(call(turn, "one more"), ()) is None
    other = await stage.running(conversation="t2")
    assert await stage.ledger.request(call(other), ()) is not None


# --- deciding ------------------------------------------------------------------------------------


async def test_a_word_is_given_once(stage: Stage) -> None:
    approval = await asked(stage, await stage.running())
    decided = await stage.ledger.decide(approval.id, YES, (post("outcome", text="yes"),))
    assert decided is not None
    assert (decided.state, decided.decider) == (ApprovalState.APPROVED, "test:ada")
    assert await stage.ledger.decide(approval.id, NO, (post("other", text="no"),)) is None
    found = await stage.ledger.approval(approval.id)
    assert found is not None
    assert (found.state, found.decider_name) == (ApprovalState.APPROVED, "Ada")
    assert await stage.ledger.decide(ApprovalId("apr-none"), YES, ()) is None
    assert (await stage.ledger.counts()).approvals == 0


async def test_a_grant_is_used_once_by_the_turn_that_waits_for_it(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    pending = await stage.ledger.take(approval.id, turn.id)
    assert pending is not None
    assert pending.state is ApprovalState.PENDING
    await stage.ledger.decide(approval.id, YES, ())
    used = await stage.ledger.take(approval.id, turn.id)
    assert used is not None
    assert used.state is ApprovalState.USED
    assert await stage.ledger.take(approval.id, turn.id) is None
    await stage.ledger.end_turn(turn.id, DONE)
    assert await waiting(stage) == [], "it has been heard"
    fresh = await stage.running("again", "t2")
    assert (await asked(stage, fresh)).id != approval.id


async def test_a_grant_is_for_exactly_that_call_of_that_conversation(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    other = await stage.running(conversation="t2")
    await stage.ledger.decide(approval.id, YES, ())
    await asked(stage, turn, "ls -a")
    changed = call(turn, tool="Write")
    assert await stage.ledger.request(changed, ()) == changed
    await asked(stage, other)
    assert await state(stage, approval) is ApprovalState.APPROVED


async def test_a_denial_is_heard_and_not_asked_again_by_the_same_turn(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    await stage.ledger.decide(approval.id, NO, ())
    for _ in range(2):
        known = await stage.ledger.request(call(turn), ())
        assert known is not None
        assert (known.id, known.state) == (approval.id, ApprovalState.DENIED)
    await stage.ledger.end_turn(turn.id, DONE)
    assert await waiting(stage) == []


# --- a word that comes when its turn is over -----------------------------------------------------


@pytest.mark.parametrize("verdict", [YES, NO])
async def test_it_comes_back_as_a_message_of_whoever_gave_it(
    stage: Stage, verdict: Verdict
) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    await stage.ledger.end_turn(turn.id, DONE)
    await stage.reopen()
    assert await waiting(stage) == []
    await stage.ledger.decide(approval.id, verdict, ())
    await stage.reopen()
    resumed = await stage.claim()
    (stored,) = resumed.messages
    assert stored.message.text == verdict.words
    assert stored.message.sender == verdict.by
    assert stored.message.target == turn.messages[0].message.target
    assert resumed.workspace == turn.workspace
    await stage.ledger.begin_attempt(resumed.id, 1, PROCESS)
    known = await stage.ledger.request(call(resumed), ())
    assert known is not None
    assert known.id == approval.id
    assert known.state is (ApprovalState.USED if verdict.approved else ApprovalState.DENIED)
    again = await stage.ledger.request(call(resumed), ())
    assert again is not None
    assert (again.id == approval.id) is not verdict.approved, "a grant is for one call"


async def test_a_word_between_the_wait_and_the_end_of_its_turn_comes_with_that_end(
    stage: Stage,
) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    assert await stage.ledger.take(approval.id, turn.id) is not None  # the wait was over
    await stage.ledger.decide(approval.id, YES, ())
    assert await stage.ledger.ready(T1) is None
    await stage.ledger.end_turn(turn.id, DONE)
    await stage.reopen()
    assert await waiting(stage) == [("test:ada", YES.words)]


async def test_a_death_between_the_word_and_its_use_neither_loses_nor_doubles_it(
    stage: Stage,
) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    await stage.ledger.decide(approval.id, YES, ())
    await stage.reopen()
    (found,) = await stage.ledger.interrupted()
    await stage.ledger.requeue(found.id, not_before=0, resend=False)
    again = await stage.claim()
    assert again.id == turn.id
    assert [stored.message.text for stored in again.messages] == ["hello"], "nothing came back yet"
    await stage.ledger.begin_attempt(turn.id, 2, PROCESS)
    known = await stage.ledger.request(call(again), ())
    assert known is not None
    assert (known.id, known.state) == (approval.id, ApprovalState.USED)
    await stage.reopen()
    await stage.ledger.interrupted()
    assert (await asked(stage, again)).id != approval.id, "what may have run is asked for anew"


async def test_a_word_that_nobody_took_survives_every_other_end_but_a_stop(stage: Stage) -> None:
    for number, ending in enumerate(TurnState):
        if ending in (TurnState.QUEUED, TurnState.RUNNING):
            continue
        conversation = f"t{number}"
        turn = await stage.running("hello", conversation)
        approval = await asked(stage, turn)
        await stage.ledger.decide(approval.id, YES, ())
        await stage.ledger.end_turn(turn.id, Ending(ending))
        ready = await stage.ledger.ready(ConversationId(conversation))
        stopped = ending is TurnState.STOPPED
        assert (ready is None) is stopped, ending
        wanted = ApprovalState.EXPIRED if stopped else ApprovalState.APPROVED
        assert await state(stage, approval) is wanted


async def test_who_stops_a_turn_calls_off_what_it_asked_for(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn)
    await stage.ledger.requeue(turn.id, not_before=0, resend=False)
    await stage.ledger.call_off(T1)
    assert await state(stage, approval) is ApprovalState.EXPIRED
    assert await stage.ledger.decide(approval.id, YES, ()) is None


async def test_the_clock_that_jumps_takes_what_waits_along(stage: Stage) -> None:
    approval = await asked(stage, await stage.running())
    await stage.ledger.move_waiting(100.0)
    found = await stage.ledger.approval(approval.id)
    assert found is not None
    assert found.asked_at == stage.clock.now() + 100


# --- what goes -----------------------------------------------------------------------------------


async def test_what_is_too_old_expires_and_what_is_used_stays_so(stage: Stage) -> None:
    turn = await stage.running()
    old, granted, used = (call(turn, name) for name in ("old", "granted", "used"))
    for approval in (old, granted, used):
        assert await stage.ledger.request(approval, ()) == approval
    for approval in (granted, used):
        await stage.ledger.decide(approval.id, YES, ())
    await stage.ledger.take(used.id, turn.id)
    await stage.ledger.end_turn(turn.id, DONE)
    await stage.clock.advance(20 * 86_400.0)
    now = stage.clock.now()
    await stage.ledger.retain(
        records_before=0, workspaces_before=now - 10 * 86_400.0, keys_before=0
    )
    assert await state(stage, old) is ApprovalState.EXPIRED
    assert await state(stage, granted) is ApprovalState.EXPIRED
    assert await state(stage, used) is ApprovalState.USED
    assert await stage.ledger.decide(old.id, YES, ()) is None
    await stage.ledger.retain(records_before=now, workspaces_before=now, keys_before=now)
    assert await stage.ledger.approval(old.id) is None


@pytest.mark.parametrize("who", ["t1", "test:eve"])
async def test_no_byte_of_an_erased_approval_stays(stage: Stage, who: str) -> None:
    """What was to be done goes with what was said, and with what operators were told of it."""
    await stage.hear(stage.message("hello", sender="eve"))
    turn = await stage.claim()
    await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
    approval = await asked(stage, turn, PLANTED[0].decode())
    about = post("n", "notices", f"{approval.id}: {PLANTED[1]!r}", kind=EffectKind.NOTICE)
    await stage.ledger.add_effects((about,))
    await stage.ledger.end_turn(turn.id, DONE)
    verdict = Verdict(approved=True, by=ADA, words=PLANTED[2].decode())
    await stage.ledger.decide(approval.id, verdict, ())
    assert len({word for _, word in still_there(stage.root)}) == 3
    await stage.ledger.erase(who)
    assert await stage.ledger.approval(approval.id) is None
    if who != "t1":  # what Ada said in the conversation is hers
        await stage.ledger.erase("test:ada")
    assert still_there(stage.root) == []


async def test_a_decider_who_is_erased_is_named_no_more(stage: Stage) -> None:
    approval = await asked(stage, await stage.running())
    await stage.ledger.decide(approval.id, NO, ())
    await stage.ledger.erase("test:bob")
    found = await stage.ledger.approval(approval.id)
    assert found is not None
    assert (found.decider, found.decider_name) == ("", "")


# --- its story -----------------------------------------------------------------------------------


async def test_a_trace_tells_who_asked_who_decided_and_when_it_was_used(stage: Stage) -> None:
    turn = await stage.running()
    approval = await asked(stage, turn, "secret")
    await stage.ledger.decide(approval.id, YES, ())
    await stage.ledger.take(approval.id, turn.id)
    story = await stage.ledger.trace(approval.id)
    assert story is not None
    assert [what for what in happened(story) if "appro" in what] == [
        "approval asked", "approved", "approval used",
    ]  # fmt: skip
    (told,) = rows(story, "approvals")
    assert (told["state"], told["decider"]) == ("used", "test:ada")
    assert "secret" not in str(story), "never what it was called with"
    assert await stage.ledger.trace(turn.id) == {**story, "id": turn.id}
    assert await retain(stage, days=30) == []


async def test_what_an_operator_let_go_on_is_booked_on_who_asked_for_it(stage: Stage) -> None:
    turn = await stage.running()
    for number in range(2):  # what goes on asks again, and waits again
        approval = await asked(stage, turn, f"ls {number}")
        await stage.ledger.end_turn(turn.id, DONE)
        await stage.ledger.decide(approval.id, NO, ())
        turn = await stage.claim()
        assert turn.sender == "test:bob", "who decided"
        assert turn.booked_on == "test:ada", "who asked"
        await stage.ledger.begin_attempt(turn.id, 1, PROCESS)


# --- what the daemon itself asks -----------------------------------------------------------------

MORE = Raise(Budget(Scope.ALL), 5.0, 4_000_000_000.0)


async def offered(stage: Stage, turn: Turn, key: str) -> Approval:
    """A raise that is put before people, with the post that shows it."""
    raised = replace(call(turn), id=offer_id(key), tool=RAISE, input=canonical(MORE.as_json()))
    request = post(f"{raised.id}/asked", turn.conversation, "?", kind=EffectKind.REQUEST)
    await stage.ledger.offer(raised, (request,))
    return raised


async def test_a_raise_is_put_before_people_once_and_also_when_no_turn_runs(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.end_turn(turn.id, DONE)
    raised = await offered(stage, turn, "a")
    await offered(stage, turn, "a")
    assert await stage.due() == ["?"]
    assert await state(stage, raised) is ApprovalState.PENDING
    assert (await stage.ledger.counts()).approvals == 0, "nothing waits for it"
    assert await stage.ledger.approvals() == ()


async def test_an_approved_raise_is_made_with_the_decision_and_nobody_hears_of_it(
    stage: Stage,
) -> None:
    turn = await stage.running()
    raised, other = await offered(stage, turn, "a"), await offered(stage, turn, "b")
    assert await stage.ledger.decide(raised.id, YES, ()) is not None
    await stage.reopen()
    assert await stage.ledger.raises() == (MORE,)
    assert await state(stage, raised) is ApprovalState.USED
    assert await state(stage, other) is ApprovalState.EXPIRED, "the same is not given twice"
    for approval in (raised, other):
        assert await stage.ledger.decide(approval.id, YES, ()) is None
    assert await stage.ledger.raises() == (MORE,)
    await stage.ledger.end_turn(turn.id, DONE)
    assert await waiting(stage) == []


async def test_a_denied_raise_leaves_the_others_where_they_are(stage: Stage) -> None:
    turn = await stage.running()
    raised, other = await offered(stage, turn, "a"), await offered(stage, turn, "b")
    assert await stage.ledger.decide(raised.id, NO, ()) is not None
    assert await stage.ledger.raises() == ()
    assert await state(stage, other) is ApprovalState.PENDING
    await stage.ledger.end_turn(turn.id, DONE)
    assert await waiting(stage) == []


async def test_raises_keep_no_agent_from_asking(stage: Stage) -> None:
    turn = await stage.running()
    for number in range(6):
        await offered(stage, turn, str(number))
    assert await stage.ledger.request(call(turn), ()) is not None
