"""What the Slack connector posts, and what becomes of it when Slack does not answer as hoped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.demo.slack import StandInSlack
from daemon.errors import AuthenticationFailed, Unavailable
from daemon.model import (
    Effect,
    EffectState,
    Message,
    NotNow,
    Rejected,
    Sent,
    Sighting,
    Unclear,
)
from tests.integration.slack_stage import Stage, on_stage, pending, until

BEA = "U0002"
GENERAL, SUPPORT = "C0001", "C0002"


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack() as running:
        yield running


@pytest.fixture
async def stage(slack: StandInSlack, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(slack, tmp_path, sockets=1) as made:
        await made.start()
        await made.filled()  # from here on only events tell it anything
        yield made


async def asked(slack: StandInSlack, stage: Stage, channel: str = GENERAL) -> Message:
    before = len(stage.intake.messages)
    slack.mention(BEA, channel, "a question")
    return await stage.intake.message(before + 1)


async def one(slack: StandInSlack, stage: Stage, text: str = "an answer", key: str = "t") -> Effect:
    (effect,) = await stage.effects(await asked(slack, stage), text, key)
    return effect


async def sending() -> None:
    return None


# --- an answer that is lost ----------------------------------------------------------------------


async def test_a_post_whose_answer_was_lost_is_found_and_not_repeated(
    slack: StandInSlack, stage: Stage
) -> None:
    effect = await one(slack, stage)
    slack.lose_answer("chat.postMessage")
    assert isinstance(await stage.connector.deliver(effect, sending), Unclear)
    (post,) = slack.posts()
    assert len(slack.calls("chat.postMessage")) == 1, "the client does not repeat it by itself"
    assert await stage.connector.find(effect) == Sent(post.ts)


async def test_a_post_that_never_arrived_is_proven_absent(
    slack: StandInSlack, stage: Stage
) -> None:
    effect = await one(slack, stage)
    slack.fail("chat.postMessage", "cut")
    assert isinstance(await stage.connector.deliver(effect, sending), Unclear)
    assert await stage.connector.find(effect) is Sighting.ABSENT
    assert len(slack.calls("conversations.replies")) == 2, "absent is only what two looks miss"
    assert isinstance(await stage.connector.deliver(effect, sending), Sent)
    assert len(slack.posts()) == 1


async def test_a_post_is_found_among_many(slack: StandInSlack, stage: Stage) -> None:
    message = await asked(slack, stage)
    root = str(message.target["thread_ts"])
    (effect,) = await stage.effects(message, "an answer")
    for number in range(250):  # more than a page before it, as the oldest come first
        slack.say("U0003", GENERAL, f"chatter {number}", root)
    slack.lose_answer("chat.postMessage")
    await stage.connector.deliver(effect, sending)
    assert isinstance(await stage.connector.find(effect), Sent)


@pytest.mark.parametrize("answer", ["status", "html", "cut"])
async def test_a_look_that_fails_says_nothing(
    slack: StandInSlack, stage: Stage, answer: str
) -> None:
    effect = await one(slack, stage)
    if answer == "status":
        slack.fail("conversations.*", "status", times=None, status=500)
    elif answer == "html":
        slack.fail("conversations.*", "html", times=None)
    else:
        slack.fail("conversations.*", "cut", times=None)
    with pytest.raises(Unavailable):
        await stage.connector.find(effect)
    slack.heal()
    slack.rate_limit("conversations.replies", 7)
    with pytest.raises(Unavailable) as limited:
        await stage.connector.find(effect)
    assert limited.value.retry_after == 7


async def test_a_look_that_may_not_be_taken_proves_nothing(
    slack: StandInSlack, stage: Stage
) -> None:
    effect = await one(slack, stage)
    slack.fail("conversations.replies", "error", code="missing_scope")
    assert await stage.connector.find(effect) is Sighting.UNKNOWN


# --- refusals ------------------------------------------------------------------------------------


async def test_a_429_is_waited_out_and_other_channels_go_on(
    slack: StandInSlack, stage: Stage
) -> None:
    first = await one(slack, stage, key="first")
    (second,) = await stage.effects(await asked(slack, stage, SUPPORT), "elsewhere", "second")
    slack.rate_limit("chat.postMessage", 60)
    receipt = await stage.connector.deliver(first, sending)
    assert isinstance(receipt, NotNow)
    assert receipt.retry_after == 60
    assert slack.posts() == []
    again = await stage.connector.deliver(first, sending)
    assert isinstance(again, NotNow)
    assert 50 < again.retry_after <= 60
    assert len(slack.calls("chat.postMessage")) == 1, "a closed channel is not knocked at"
    assert isinstance(await stage.connector.deliver(second, sending), Sent)


@pytest.mark.parametrize("code", ["channel_not_found", "is_archived", "not_in_channel"])
async def test_what_can_never_be_posted_is_rejected(
    slack: StandInSlack, stage: Stage, code: str
) -> None:
    effect = await one(slack, stage)
    slack.fail("chat.postMessage", "error", code=code)
    receipt = await stage.connector.deliver(effect, sending)
    assert isinstance(receipt, Rejected)
    assert code in receipt.reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [("internal_error", Unclear), ("fatal_error", Unclear), ("service_unavailable", NotNow)],
)
async def test_what_slack_says_of_itself_is_no_verdict_on_the_post(
    slack: StandInSlack, stage: Stage, code: str, kind: type
) -> None:
    effect = await one(slack, stage)
    slack.fail("chat.postMessage", "error", code=code)
    assert isinstance(await stage.connector.deliver(effect, sending), kind)


async def test_a_token_that_is_revoked_parks_the_connector_and_keeps_the_post(
    slack: StandInSlack, stage: Stage
) -> None:
    effect = await one(slack, stage)
    slack.fail("chat.postMessage", "error", code="token_revoked")
    assert isinstance(await stage.connector.deliver(effect, sending), NotNow)
    assert stage.task is not None
    with pytest.raises(AuthenticationFailed, match="token_revoked"):
        await stage.task
    assert "token_revoked" in stage.connector.health().detail
    assert isinstance(await stage.connector.deliver(effect, sending), NotNow)
    assert len(slack.calls("chat.postMessage")) == 1


async def test_an_unreachable_slack_leaves_the_post_for_later(tmp_path: Path) -> None:
    async with StandInSlack() as slack, on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        effect = await one(slack, stage)
        await slack.stop()
        # The first call goes out on a connection that has just died: nobody can tell.
        assert isinstance(await stage.connector.deliver(effect, sending), NotNow | Unclear)
        with pytest.raises(Unavailable):
            await stage.connector.find(effect)
        assert isinstance(await stage.connector.deliver(effect, sending), NotNow)


# --- what is posted ------------------------------------------------------------------------------


async def test_a_long_answer_is_taken_by_slack_piece_by_piece(
    slack: StandInSlack, stage: Stage
) -> None:
    code = "\n".join(f"print({number})  # äöü \N{GRINNING FACE}" for number in range(1400))
    text = f"Here it is:\n\n```python\n{code}\n```\n\nThat was all, <!channel> and <@U0001>."
    effects = await stage.effects(await asked(slack, stage), text)
    assert len(effects) > 2
    receipts = []
    for effect in effects:
        receipt = await stage.connector.deliver(effect, sending)
        while isinstance(receipt, NotNow):
            await asyncio.sleep(receipt.retry_after)
            receipt = await stage.connector.deliver(effect, sending)
        receipts.append(receipt)
    assert all(isinstance(receipt, Sent) for receipt in receipts)
    posts = slack.posts()
    assert all(post.text.count("```") % 2 == 0 for post in posts), "each piece's code is closed"
    shown = "".join(post.text for post in posts)
    assert all(f"print({number})" in shown for number in range(1400))
    assert "<!channel>" not in shown
    assert "<@U0001>" not in shown


async def test_posts_keep_below_slacks_limits(tmp_path: Path) -> None:
    """The stand-in enforces the published limits here: whoever exceeds them gets a 429."""
    async with StandInSlack(limits=True) as slack, on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        message = await asked(slack, stage)
        for number in range(6):
            (effect,) = await stage.effects(message, f"answer {number}", f"turn-{number}")
            receipt = await stage.connector.deliver(effect, sending)
            while isinstance(receipt, NotNow):
                await asyncio.sleep(receipt.retry_after)
                receipt = await stage.connector.deliver(effect, sending)
            assert isinstance(receipt, Sent)
        assert {call["status"] for call in slack.calls("chat.postMessage")} == {200}
        assert [post.text for post in slack.posts()] == [f"answer {n}" for n in range(6)]


async def test_a_notice_reaches_a_channel_and_a_person(slack: StandInSlack, stage: Stage) -> None:
    for number, address in enumerate((SUPPORT, BEA)):
        notice = stage.connector.compose_notice(f"n-{number}", address, "the disk is full")
        receipt = await stage.connector.deliver(pending(notice), sending)
        assert isinstance(receipt, Sent)
        found = replace(pending(notice), state=EffectState.SENDING)
        assert await stage.connector.find(found) == receipt
    assert [post.channel for post in slack.posts()] == [SUPPORT, "D0002"]
    unknown = stage.connector.compose_notice("n-9", "U9999", "the disk is full")
    assert isinstance(await stage.connector.deliver(pending(unknown), sending), Rejected)


async def test_no_link_is_unfolded_and_nothing_but_ids_is_in_the_metadata(
    slack: StandInSlack, stage: Stage
) -> None:
    effect = await one(slack, stage, "see https://example.com/secret?id=1")
    await stage.connector.deliver(effect, sending)
    (call,) = slack.calls("chat.postMessage")
    assert {str(call["args"][name]).lower() for name in ("unfurl_links", "unfurl_media")} <= {
        "0",
        "false",
    }
    (post,) = slack.posts()
    assert post.metadata == {"event_type": "agent_reply", "event_payload": {"d": effect.id}}
    await until(lambda: stage.connector.health().ready)
