"""Buttons over the stand-in: posted, pressed and acknowledged, replaced, and told in private."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.slack import Delivering, Post, StandInSlack
from daemon.model import (
    Approval,
    ApprovalId,
    ConversationId,
    Decision,
    NewEffect,
    NotNow,
    Sent,
    Sighting,
    Trust,
    TurnId,
    Unclear,
)
from tests.integration.slack_stage import Stage, at_work, pending

ADA, BEA = "U0001", "U0002"
GENERAL = "C0001"


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack(delivering=Delivering(ack_timeout=1.0)) as running:
        yield running


@pytest.fixture
async def stage(slack: StandInSlack, tmp_path: Path) -> AsyncIterator[Stage]:
    async with at_work(slack, tmp_path) as made:
        yield made


async def sending() -> None:
    return None


async def asked(slack: StandInSlack, stage: Stage) -> tuple[Approval, NewEffect, Post]:
    """An approval whose post is in the thread of the message that led to it."""
    said = slack.mention(BEA, GENERAL, "please")
    await stage.intake.message()
    approval = Approval(
        id=ApprovalId(f"apr-{'a' * 32}"),
        conversation=ConversationId(f"slack:T0001:{GENERAL}:{said.ts}"),
        connector="slack",
        turn=TurnId("turn-1"),
        tool="Bash",
        input='{"command":"ls"}',
        requesters=frozenset(),
        asked_at=0.0,
    )
    request = stage.connector.compose_request(approval, "May I?", '{"command": "ls"}')
    receipt = await stage.connector.deliver(pending(request), sending)
    assert isinstance(receipt, Sent)
    stage.outbox.refs[request.id] = receipt.ref
    (post,) = slack.posts(GENERAL, said.ts)
    return approval, request, post


async def test_a_press_is_taken_in_before_it_is_acknowledged(
    slack: StandInSlack, stage: Stage
) -> None:
    approval, _, post = await asked(slack, stage)
    stage.intake.failures = 1
    slack.click(ADA, GENERAL, post.ts, "approve")
    await stage.intake.until(lambda: stage.intake.refused)
    pressed = slack.click(ADA, GENERAL, post.ts, "deny")
    ack = await slack.wait_for_ack(pressed)
    assert ack["response"] in (None, {}, "")
    (decision,) = (item for item in stage.intake.items if isinstance(item, Decision))
    assert (decision.approval, decision.approve) == (approval.id, False)
    assert (decision.sender.id, decision.sender.trust) == ("slack:T0001:U0001", Trust.OPERATOR)
    acked = [entry["event_id"] for entry in slack.journal.of("ack")]
    assert len(acked) == len(set(acked))
    assert pressed in acked


async def test_the_outcome_takes_the_buttons_place_however_often_it_is_told(
    slack: StandInSlack, stage: Stage
) -> None:
    approval, _, _ = await asked(slack, stage)
    outcome = pending(stage.connector.compose_outcome(approval, "Approved by ada.", "ls"))
    slack.lose_answer("chat.update", times=None)
    assert isinstance(await stage.connector.deliver(outcome, sending), Unclear)
    assert await stage.connector.find(outcome) is Sighting.ABSENT, "it may be told again"
    slack.heal()
    slack.rate_limit("chat.update", 7)
    assert await stage.connector.deliver(outcome, sending) == NotNow("Slack's rate limit", 7.0)
    slack.heal()


async def test_an_outcome_with_no_post_to_replace_is_no_trouble(
    slack: StandInSlack, stage: Stage
) -> None:
    approval, request, post = await asked(slack, stage)
    outcome = pending(stage.connector.compose_outcome(approval, "Approved by ada.", "ls"))
    assert await stage.connector.deliver(outcome, sending) == Sent(post.ts)
    (standing,) = slack.posts(GENERAL, post.thread_ts)
    assert standing.text == "Approved by ada."
    with pytest.raises(LookupError):
        slack.click(ADA, GENERAL, post.ts, "approve")
    slack.delete(GENERAL, post.ts)
    assert isinstance(await stage.connector.deliver(outcome, sending), Sent)
    del stage.outbox.refs[request.id]
    assert isinstance(await stage.connector.deliver(outcome, sending), Sent)


async def test_a_whisper_reaches_one_person_and_never_raises(
    slack: StandInSlack, stage: Stage
) -> None:
    _, _, post = await asked(slack, stage)
    target = {"channel": GENERAL, "thread_ts": post.thread_ts, "user": BEA}
    await stage.connector.whisper(target, "Only an operator can decide this.")
    (told,) = slack.journal.of("ephemeral")
    assert (told["user"], told["thread_ts"]) == (BEA, post.thread_ts)
    slack.fail("chat.postEphemeral", "error", code="user_not_in_channel")
    await stage.connector.whisper(target, "again")
    slack.fail("chat.postEphemeral", "cut", times=None)
    await stage.connector.whisper({}, "again")
