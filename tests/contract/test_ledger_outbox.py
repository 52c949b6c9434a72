"""The port `Ledger`, outbox and costs: what leaves, in which order, and what it cost."""

from __future__ import annotations

import pytest

from daemon.budgets import Budget, Raise, Scope
from daemon.errors import LedgerError
from daemon.model import (
    ConversationId,
    Effect,
    EffectKind,
    EffectState,
    ModelCall,
    Trust,
    Turn,
    Usage,
)
from tests.contract.test_ledger_people import DAY, retain
from tests.ledgers import Stage, post


async def only(stage: Stage, connector: str = "chat") -> Effect:
    (effect,) = await stage.ledger.due_effects(connector, stage.clock.now(), 10)
    return effect


# --- order ----------------------------------------------------------------------------------------


async def test_effects_of_a_conversation_are_due_one_after_the_other(stage: Stage) -> None:
    first, second = post("1", text="first"), post("2", text="second")
    await stage.ledger.add_effects((first, second))
    assert await stage.due() == ["first"]
    await stage.ledger.mark_sending(first.id)
    assert await stage.due() == [], "one is under way"
    await stage.ledger.mark_sent(first.id, "ref")
    assert await stage.due() == ["second"]


async def test_one_that_waits_holds_back_those_behind_it(stage: Stage) -> None:
    first, second = post("1", text="first"), post("2", text="second")
    await stage.ledger.add_effects((first, second))
    await stage.ledger.mark_pending(first.id, stage.clock.now() + 60, "429")
    assert await stage.due() == []
    assert await stage.ledger.next_due("chat") == stage.clock.now() + 60
    await stage.clock.advance(60)
    assert await stage.due() == ["first"]


@pytest.mark.parametrize("end", ["unclear", "dead"])
async def test_one_that_failed_holds_nobody_back(stage: Stage, end: str) -> None:
    first, second = post("1", text="first"), post("2", text="second")
    await stage.ledger.add_effects((first, second))
    await stage.ledger.mark_sending(first.id)
    if end == "dead":
        await stage.ledger.mark_dead(first.id, "no")
    else:
        await stage.ledger.mark_unclear(first.id, "who knows")
    assert await stage.due() == ["second"]


async def test_conversations_and_connectors_do_not_wait_for_each_other(stage: Stage) -> None:
    effects = (
        post("1", "t1", "one"),
        post("2", "t2", "two"),
        post("3", "t3", "mail", connector="mail"),
    )
    await stage.ledger.add_effects(effects)
    await stage.ledger.mark_sending(effects[0].id)
    assert await stage.due() == ["two"]
    assert await stage.due("mail") == ["mail"]
    assert await stage.ledger.next_due("nobody") is None


async def test_an_effect_with_a_known_id_is_left_alone(stage: Stage) -> None:
    await stage.ledger.add_effects((post("1", text="first"),))
    await stage.ledger.add_effects((post("1", text="again"),))
    assert await stage.due() == ["first"]


# --- life -----------------------------------------------------------------------------------------


async def test_an_effect_comes_back_as_it_was_made(stage: Stage) -> None:
    turn, made = await stage.done()
    await stage.reopen()
    effect = await only(stage)
    assert (effect.id, effect.turn, effect.state) == (made.id, turn.id, EffectState.PENDING)
    assert (effect.target, effect.body, effect.kind) == (made.target, made.body, made.kind)
    assert (effect.attempts, effect.started_at, effect.created_at) == (0, None, stage.clock.now())


async def test_what_is_not_pending_must_not_leave(stage: Stage) -> None:
    effect = post("1")
    with pytest.raises(LedgerError):
        await stage.ledger.mark_sending(effect.id)
    await stage.ledger.add_effects((effect,))
    await stage.ledger.mark_sending(effect.id)
    with pytest.raises(LedgerError):
        await stage.ledger.mark_sending(effect.id)


async def test_what_was_left_in_sending_is_found_after_a_death(stage: Stage) -> None:
    effect = post("1")
    await stage.ledger.add_effects((effect,))
    began = stage.clock.now()
    await stage.ledger.mark_sending(effect.id)
    await stage.clock.advance(100)
    await stage.reopen()
    (left,) = await stage.ledger.left_sending("chat")
    assert (left.id, left.state, left.started_at) == (effect.id, EffectState.SENDING, began)
    assert await stage.ledger.left_sending("mail") == ()
    await stage.ledger.mark_pending(left.id, stage.clock.now(), "not there")
    await stage.ledger.mark_sending(left.id)
    (again,) = await stage.ledger.left_sending("chat")
    assert (again.started_at, again.attempts) == (began, 2), "the search begins at the first try"


async def test_what_has_ended_stays_so(stage: Stage) -> None:
    effect = post("1")
    await stage.ledger.add_effects((effect,))
    await stage.ledger.mark_sending(effect.id)
    await stage.ledger.mark_sent(effect.id, "ref")
    await stage.ledger.mark_pending(effect.id, 0, "late word")
    await stage.ledger.mark_unclear(effect.id, "late word")
    assert await stage.due() == []
    assert (await stage.ledger.counts()).outbox["unclear"] == 0


async def test_a_try_that_never_left_counts_for_the_back_off(stage: Stage) -> None:
    await stage.ledger.add_effects((post("1"),))
    for attempts in (0, 1, 2):
        effect = await only(stage)
        assert effect.attempts == attempts
        await stage.ledger.mark_pending(effect.id, stage.clock.now(), "refused")


# --- limits ---------------------------------------------------------------------------------------


async def test_it_counts_what_was_sent_for_a_connectors_limits(stage: Stage) -> None:
    t1 = ConversationId("t1")
    await stage.hear(stage.message(sender="ada", conversation="t1"))
    await stage.hear(stage.message(sender="bob", conversation="t2"))
    await stage.ledger.add_effects(
        (
            post("1", "t1", kind=EffectKind.REPLY),
            post("2", "t1", kind=EffectKind.REPLY),
            post("3", "t2", kind=EffectKind.REPLY),
            post("4", "t1", kind=EffectKind.DRAFT),
            dead := post("5", "t1", kind=EffectKind.REPLY),
        )
    )
    await stage.ledger.mark_dead(dead.id, "no")
    ledger, since = stage.ledger, stage.clock.now()
    assert await ledger.count_sent("chat", EffectKind.REPLY, since) == 3
    assert await ledger.count_sent("chat", EffectKind.REPLY, since, conversation=t1) == 2
    assert await ledger.count_sent("chat", EffectKind.REPLY, since, sender="test:bob") == 1
    assert await ledger.count_sent("chat", EffectKind.REPLY, since + 1) == 0
    assert await ledger.count_sent("mail", EffectKind.REPLY, since) == 0


# --- costs ----------------------------------------------------------------------------------------


async def call(stage: Stage, turn: Turn, cost: float, at: float | None = None) -> None:
    await stage.ledger.book(
        ModelCall(
            turn.conversation,
            turn.id,
            turn.sender,
            "claude",
            Usage(10, 5),
            cost,
            200,
            stage.clock.now() if at is None else at,
            1.0,
            turn.connector,
            "C1",
        )
    )


async def test_costs_are_summed_by_budget_and_daily_ones_by_day(stage: Stage) -> None:
    one = await stage.running(conversation="t1")
    await stage.hear(stage.message(conversation="t2", trust=Trust.PUBLIC, sender="bob"))
    two = await stage.claim("t2")
    yesterday = stage.clock.now() - 86_400
    await call(stage, one, 0.25)
    await call(stage, one, 0.5, yesterday)
    await call(stage, two, 0.125)
    await stage.reopen()
    expected = {
        Budget(Scope.TURN, one.id): 0.75,
        Budget(Scope.TURN, "turn-none"): 0.0,
        Budget(Scope.CONVERSATION, "t1"): 0.75,
        Budget(Scope.SENDER, "test:ada"): 0.25,
        Budget(Scope.SENDER, "test:bob"): 0.125,
        Budget(Scope.CHANNEL, "C1"): 0.375,
        Budget(Scope.CHANNEL, "C2"): 0.0,
        Budget(Scope.CONNECTOR, "chat"): 0.375,
        Budget(Scope.PUBLIC): 0.125,
        Budget(Scope.ALL): 0.375,
    }
    spent = await stage.ledger.spent(list(expected), stage.clock.now())
    assert dict(zip(expected, spent, strict=True)) == expected
    assert (await stage.ledger.counts()).cost_today == 0.375


async def test_what_was_added_to_budgets_outlives_a_restart_until_its_time(stage: Stage) -> None:
    now = stage.clock.now()
    today = Raise(Budget(Scope.SENDER, "test:ada"), 5.0, now + 60)
    ever = Raise(Budget(Scope.CONVERSATION, "t1"), 2.5, None)
    for more in (today, ever):
        await stage.ledger.raise_budget(more)
    await stage.reopen()
    assert await stage.ledger.raises() == (today, ever)
    await stage.clock.advance(61)
    assert await stage.ledger.raises() == (ever,)


async def test_erasing_leaves_no_name_in_what_was_spent_or_added(stage: Stage) -> None:
    one = await stage.running(conversation="t1")
    await call(stage, one, 0.25)
    for budget in (Budget(Scope.SENDER, "test:ada"), Budget(Scope.CONVERSATION, "t1")):
        await stage.ledger.raise_budget(Raise(budget, 1.0, None))
    await stage.ledger.erase("test:ada")
    await stage.ledger.erase("t1")
    assert await stage.ledger.raises() == ()
    mine = (Budget(Scope.SENDER, "test:ada"), Budget(Scope.CHANNEL, "C1"), Budget(Scope.ALL))
    assert await stage.ledger.spent(mine, 0.0) == (0.0, 0.0, 0.25)


async def test_a_call_that_ends_after_its_conversation_was_erased_is_nobody_s(
    stage: Stage,
) -> None:
    one = await stage.running(conversation="t1")
    await stage.ledger.erase("t1")
    await call(stage, one, 0.25)
    mine = [
        Budget(Scope.CONVERSATION, "t1"),
        Budget(Scope.SENDER, "test:ada"),
        Budget(Scope.CHANNEL, "C1"),
        Budget(Scope.ALL),
    ]
    assert await stage.ledger.spent(mine, 0.0) == (0.0, 0.0, 0.0, 0.25)


async def test_a_conversation_s_budget_counts_for_as_long_as_the_conversation_lives(
    stage: Stage,
) -> None:
    talk = (Budget(Scope.CONVERSATION, "t1"),)
    for _ in range(3):
        turn = await stage.sent(conversation="t1")
        await call(stage, turn, 0.25)
        await call(stage, turn, 0.25)
        await stage.clock.advance(60 * DAY)
        await retain(stage, days=90)
    assert await stage.ledger.spent(talk, 0.0) == (1.5,)
    whose = (Budget(Scope.SENDER, "test:ada"), Budget(Scope.CHANNEL, "C1"))
    assert await stage.ledger.spent(whose, 0.0) == (0.5, 0.5), "who it was, and where, goes by age"
    await stage.clock.advance(100 * DAY)
    await retain(stage, days=90)
    assert await stage.ledger.spent(talk, 0.0) == (0.0,), "nobody has written there for so long"


# --- at a glance ----------------------------------------------------------------------------------


async def test_the_ledger_at_a_glance(stage: Stage) -> None:
    await stage.hear(stage.message(conversation="waits"))
    await stage.clock.advance(30)
    await stage.running(conversation="runs")
    queued = await stage.running(conversation="queued")
    await stage.ledger.requeue(queued.id, not_before=0, resend=False)
    await stage.done(conversation="to send")
    counts = await stage.ledger.counts()
    assert (counts.waiting, counts.running, counts.queued) == (1, 1, 1)
    assert counts.oldest_age == 30
    assert counts.outbox == {"staged": 0, "pending": 1, "sending": 0, "unclear": 0, "dead": 0}
    assert counts.dead_letters == 0


async def test_a_message_in_a_turn_that_was_put_back_is_still_waited_for(stage: Stage) -> None:
    turn = await stage.running()
    await stage.clock.advance(400)
    assert (await stage.ledger.counts()).oldest_age == 0, "it is being worked on"
    await stage.ledger.requeue(turn.id, not_before=stage.clock.now() + 60, resend=False)
    assert (await stage.ledger.counts()).oldest_age == 400


async def test_a_probe_is_a_commit_of_its_own(stage: Stage) -> None:
    await stage.ledger.probe()
    await stage.ledger.close()
    with pytest.raises(LedgerError):
        await stage.ledger.probe()
    await stage.ledger.close()


# --- what does not get out ------------------------------------------------------------------------


async def test_what_was_tried_and_is_not_settled_is_held_up_by_connector(stage: Stage) -> None:
    first, second = post("1", "t1"), post("2", "t2")
    await stage.ledger.add_effects((first, second))
    assert dict((await stage.ledger.counts()).held_up) == {}, "nothing was tried yet"
    await stage.ledger.mark_pending(first.id, stage.clock.now() + 60, "Slack cannot be reached")
    await stage.ledger.mark_sending(second.id)
    await stage.clock.advance(30)
    held_up = (await stage.ledger.counts()).held_up["chat"]
    assert (held_up.number, held_up.age, held_up.reason) == (2, 30, "Slack cannot be reached")
    await stage.ledger.mark_sent(first.id, "ref")
    await stage.ledger.mark_dead(second.id, "no")
    assert dict((await stage.ledger.counts()).held_up) == {}
