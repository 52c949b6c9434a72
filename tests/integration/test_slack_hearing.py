"""What the Slack connector hears over a real socket: registered first, then acknowledged, once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from daemon.demo.slack import Delivering, Entry, StandInSlack
from daemon.errors import AuthenticationFailed
from daemon.model import Deleted, Edited, Ignored, Message, Outcome, Stop, Trust, Unreadable
from tests.integration.slack_stage import Stage, at_work, on_stage, until

BEA, CHIDI = "U0002", "U0003"
GENERAL, ELSEWHERE = "C0001", "C0005"
AGAIN_AT_ONCE = Delivering(ack_timeout=1.0, retry_delays=(0.0,) * 20, hold_unconnected=True)


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack(delivering=AGAIN_AT_ONCE) as running:
        yield running


@pytest.fixture
async def stage(slack: StandInSlack, tmp_path: Path) -> AsyncIterator[Stage]:
    async with at_work(slack, tmp_path) as made:
        yield made


# --- registered, then acknowledged ---------------------------------------------------------------


async def test_nothing_is_acknowledged_before_it_is_registered(
    slack: StandInSlack, stage: Stage
) -> None:
    stage.intake.gate = gate = asyncio.Event()
    said = slack.dm(BEA, "hello")
    await stage.intake.until(lambda: stage.intake.begun)
    assert slack.journal.of("ack") == []
    gate.set()
    await slack.wait_for_ack(said)
    assert len(stage.intake.messages) == 1


async def test_what_a_broken_ledger_refused_comes_again_and_is_stored_once(
    slack: StandInSlack, stage: Stage
) -> None:
    stage.intake.failures = 2
    said = slack.dm(BEA, "hello")
    await slack.wait_for_ack(said)
    assert len(stage.intake.refused) == 2
    assert len(stage.intake.messages) == 1
    tries = [entry["attempt"] for entry in slack.journal.of("delivery")]
    assert tries == [0, 1, 2]


async def test_a_lost_acknowledgement_brings_the_event_again_and_it_is_stored_once(
    slack: StandInSlack, stage: Stage
) -> None:
    slack.drop_acks(2)
    said = slack.dm(BEA, "hello")
    await slack.wait_for_ack(said)
    assert len(stage.intake.messages) == 1
    assert stage.intake.outcomes.count(Outcome.DUPLICATE) == 2


async def test_events_are_taken_in_while_the_web_api_is_down(
    slack: StandInSlack, tmp_path: Path
) -> None:
    async with on_stage(slack, tmp_path) as before:
        await before.start()  # who we are is kept
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        for method in ("auth.test", "users.info", "agents.*", "assistant.*", "chat.*"):
            slack.fail(method, "status", times=None, status=503)
        await stage.start()
        said = slack.mention(BEA, GENERAL, "hello")
        await slack.wait_for_ack(said)
        assert stage.intake.identities == []
        slack.heal()
        await stage.intake.until(lambda: stage.intake.identities)
        assert stage.intake.identities[0].name == "bea"


async def test_a_burst_is_acknowledged_quickly(slack: StandInSlack, stage: Stage) -> None:
    slack.delivering.ack_timeout = 3.0  # Slack's
    told = [slack.say(BEA, GENERAL, f"<@U0BOT> {n}") for n in range(200)]
    for said in told:
        await slack.wait_for_ack(said)
    assert len(stage.intake.messages) == 200
    assert {delivery["attempt"] for delivery in slack.journal.of("delivery")} == {0}


# --- what is a message ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["message_first", "mention_first"])
async def test_both_events_of_a_mention_are_one_message(
    slack: StandInSlack, stage: Stage, order: Literal["message_first", "mention_first"]
) -> None:
    said = slack.mention(BEA, GENERAL, "good morning", order=order)
    await slack.wait_for_ack(said)
    assert len(said.events) == 2
    (message,) = stage.intake.messages
    assert message.addressed
    assert message.text == "good morning"
    assert message.conversation == f"slack:T0001:{GENERAL}:{said.ts}"


async def test_a_mention_is_known_by_its_words_where_only_one_of_its_events_comes(
    slack: StandInSlack, stage: Stage
) -> None:
    event = {
        "type": "message",
        "channel": GENERAL,
        "channel_type": "channel",
        "user": BEA,
        "team": "T0001",
        "text": "<@U0BOT> good morning",
        "ts": "1700000000.000100",
    }
    await slack.wait_for_ack(slack.emit(event))
    (message,) = stage.intake.messages
    assert message.addressed


async def test_a_mention_where_the_bot_is_no_member_is_heard(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.mention(BEA, ELSEWHERE, "over here")
    await slack.wait_for_ack(said)
    assert [message.text for message in stage.intake.messages] == ["over here"]


async def test_a_thread_goes_on_without_a_mention_and_a_channel_is_not_listened_to(
    slack: StandInSlack, stage: Stage
) -> None:
    root = slack.mention(BEA, GENERAL, "begin")
    reply = slack.say(CHIDI, GENERAL, "and more", root.ts)
    aside = slack.say(BEA, GENERAL, "lunch?")
    for said in (root, reply, aside):
        await slack.wait_for_ack(said)
    first, second = stage.intake.messages
    assert first.conversation == second.conversation
    assert (first.addressed, second.addressed) == (True, False)
    assert [item for item in stage.intake.items if "lunch" in str(item)] == []


async def test_a_direct_message_begins_a_conversation_and_a_reply_continues_it(
    slack: StandInSlack, stage: Stage
) -> None:
    one, other = slack.dm(BEA, "one"), slack.dm(BEA, "other")
    reply = slack.dm(BEA, "one more", one.ts)
    for said in (one, other, reply):
        await slack.wait_for_ack(said)
    by_text = {message.text: message for message in stage.intake.messages}
    assert by_text["one"].conversation != by_text["other"].conversation
    assert by_text["one more"].conversation == by_text["one"].conversation
    assert all(message.addressed for message in by_text.values())


async def test_one_gesture_that_came_as_two_messages_is_one(
    slack: StandInSlack, stage: Stage
) -> None:
    for said in [slack.dm(BEA, "twice", client_msg_id="c-1") for _ in range(2)]:
        await slack.wait_for_ack(said)
    assert len(stage.intake.messages) == 1


async def test_reactions_bots_and_our_own_posts_leave_nothing(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.mention(BEA, GENERAL, "hello")
    await slack.wait_for_ack(said)
    (message,) = stage.intake.messages
    (effect,) = await stage.effects(message, "good day")
    await stage.connector.deliver(effect, nothing)
    told = [
        *slack.join("U0003", "C0002"),
        *slack.mention("U0007", GENERAL, "I am a bot").events,
        slack.emit({"type": "app_home_opened", "user": BEA, "channel": "D0002", "tab": "home"}),
        slack.edit(GENERAL, slack.posts()[0].ts, "not by its author"),
        slack.delete(GENERAL, slack.posts()[0].ts),
    ]
    slack.react(BEA, GENERAL, said.ts, "eyes")
    for event in told:
        await slack.wait_for_ack(event)
    marker = slack.dm(BEA, "the end")
    await slack.wait_for_ack(marker)
    assert [message.text for message in stage.intake.messages] == ["hello", "the end"]
    others = [item for item in stage.intake.items if not isinstance(item, Message | Ignored)]
    assert others == []


# --- what authors do afterwards ------------------------------------------------------------------


async def test_a_change_and_a_deletion_are_told_with_the_key_of_their_message(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.mention(BEA, GENERAL, "hello")
    await slack.wait_for_ack(said)
    await slack.wait_for_ack(slack.edit(GENERAL, said.ts, "<@U0BOT> hello again"))
    await stage.intake.until(lambda: len(edits(stage)) == 2)  # its mention comes once more, too
    await slack.wait_for_ack(slack.delete(GENERAL, said.ts))
    assert {edit.message.text for edit in edits(stage)} == {"hello again"}
    (gone,) = [item for item in stage.intake.items if isinstance(item, Deleted)]
    keys = {item.outside_id for item in stage.intake.items}
    assert keys == {f"T0001:{GENERAL}:{said.ts}"}
    assert gone.target == {"channel": GENERAL, "thread_ts": said.ts}
    assert len(stage.intake.messages) == 1


async def test_a_mention_that_is_added_afterwards_is_heard(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.say(BEA, GENERAL, "does anybody know?")
    await slack.wait_for_ack(said)
    assert stage.intake.items == []
    await slack.wait_for_ack(slack.edit(GENERAL, said.ts, "<@U0BOT> do you know?"))
    await stage.intake.until(lambda: edits(stage))
    added = edits(stage)[0]
    assert (added.message.text, added.message.addressed, added.begins) == (
        "do you know?",
        True,
        True,
    )
    elsewhere = slack.say(BEA, ELSEWHERE, "and here?")
    await slack.wait_for_ack(slack.edit(ELSEWHERE, elsewhere.ts, "<@U0BOT> and here?"))
    assert edits(stage)[-1].outside_id == f"T0001:{ELSEWHERE}:{elsewhere.ts}"


async def test_a_deleted_first_message_of_a_thread_is_known_by_its_tombstone(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.dm(BEA, "hello")
    slack.dm(BEA, "and more", said.ts)
    event = slack.delete(said.channel, said.ts)
    await slack.wait_for_ack(event)
    (gone,) = [item for item in stage.intake.items if isinstance(item, Deleted)]
    assert gone.outside_id == f"T0001:{said.channel}:{said.ts}"


def edits(stage: Stage) -> list[Edited]:
    return [item for item in stage.intake.items if isinstance(item, Edited)]


async def test_stop_is_no_message(slack: StandInSlack, stage: Stage) -> None:
    root = slack.mention(BEA, GENERAL, "begin")
    await slack.wait_for_ack(root)
    await slack.wait_for_ack(slack.say(CHIDI, GENERAL, "stop", root.ts))
    (stop,) = [item for item in stage.intake.items if isinstance(item, Stop)]
    assert stop.conversation == stage.intake.messages[0].conversation


# --- who writes ----------------------------------------------------------------------------------


async def test_people_are_told_apart_by_what_slack_says_of_them(
    slack: StandInSlack, stage: Stage
) -> None:
    writers = ("U0001", BEA, CHIDI, "U0004", "U0005")
    for user in writers:
        await slack.wait_for_ack(slack.mention(user, GENERAL, f"I am {user}"))
    await stage.intake.until(lambda: len(stage.intake.identities) == 4)  # the operator is listed
    found = {identity.sender: identity for identity in stage.intake.identities}
    assert found["slack:T0001:U0002"].trust is Trust.MEMBER
    assert found["slack:T0001:U0003"].name == "chidi"
    for guest in ("slack:T0001:U0004", "slack:T0001:U0005"):
        assert found[guest].trust is Trust.PUBLIC
        assert found[guest].refused is not None
    operator = next(m for m in stage.intake.messages if m.text == "I am U0001")
    assert operator.sender.trust is Trust.OPERATOR
    again = slack.mention(BEA, GENERAL, "again")
    await slack.wait_for_ack(again)
    assert stage.intake.messages[-1].sender.trust is Trust.MEMBER, "known without asking again"
    assert len(slack.calls("users.info")) == 4


async def test_somebody_of_another_organisation_is_known_by_their_own_and_not_answered(
    slack: StandInSlack, stage: Stage
) -> None:
    said = slack.mention("U0006", "C0004", "hello from outside")
    await slack.wait_for_ack(said)
    assert stage.intake.messages == []
    assert any(isinstance(item, Ignored) for item in stage.intake.items)


async def test_a_users_info_that_fails_keeps_the_message_and_is_asked_again(
    slack: StandInSlack, stage: Stage
) -> None:
    slack.rate_limit("users.info", 1)
    slack.fail("users.info", "status", times=2, status=500)
    await slack.wait_for_ack(slack.dm(BEA, "hello"))
    assert stage.intake.outcomes == [Outcome.UNIDENTIFIED]
    await stage.intake.until(lambda: stage.intake.identities)


# --- a sign of life ------------------------------------------------------------------------------


async def test_a_sign_is_shown_at_once_and_taken_away_again(
    slack: StandInSlack, stage: Stage
) -> None:
    await slack.wait_for_ack(slack.mention(BEA, GENERAL, "hello"))
    (message,) = stage.intake.messages
    began = time.monotonic()
    await stage.connector.show_activity(message.target, "is reading…")
    assert time.monotonic() - began < 2.0  # 0.3 s is the aim; measured 5 ms on loopback
    await stage.connector.show_activity(message.target, "")
    shown = [(entry["status"], entry["thread_ts"]) for entry in statuses(slack)]
    thread = message.target["thread_ts"]
    assert shown == [("processing", thread), ("active", thread)]


async def test_an_app_that_is_no_agent_shows_the_older_status_and_never_both(
    slack: StandInSlack, stage: Stage
) -> None:
    slack.workspace.agent_declared = False
    for text in ("one", "two"):
        await slack.wait_for_ack(slack.mention(BEA, GENERAL, text))
    for message in stage.intake.messages:
        await stage.connector.show_activity(message.target, "is reading…")
        await stage.connector.show_activity(message.target, "")
    methods = [call["method"] for call in slack.calls() if "setStatus" in call["method"]]
    assert methods == ["agents.sessions.setStatus"] + ["assistant.threads.setStatus"] * 4
    assert [entry["status"] for entry in statuses(slack)] == ["is reading…", ""] * 2


async def test_every_turn_of_a_busy_minute_shows_a_sign_and_takes_its_own_away(
    slack: StandInSlack, stage: Stage
) -> None:
    for number in range(16):
        await slack.wait_for_ack(slack.mention(BEA, GENERAL, f"number {number}"))
    targets = [message.target for message in stage.intake.messages]
    for target in targets:
        await stage.connector.show_activity(target, "is reading…")
    shown = {entry["thread_ts"]: entry["by"] for entry in statuses(slack) if entry["status"]}
    assert set(shown) == {target["thread_ts"] for target in targets}
    assert set(shown.values()) == {"agents.sessions", "assistant.threads"}
    other = [target for target in targets if shown[target["thread_ts"]] == "assistant.threads"]
    for target in other:
        await stage.connector.show_activity(target, "")
    cleared = [entry for entry in statuses(slack) if entry["status"] == ""]
    assert [entry["thread_ts"] for entry in cleared] == [target["thread_ts"] for target in other]


async def test_a_new_sign_never_overtakes_the_end_of_the_one_before(
    slack: StandInSlack, stage: Stage
) -> None:
    await slack.wait_for_ack(slack.mention(BEA, GENERAL, "hello"))
    (message,) = stage.intake.messages
    await stage.connector.show_activity(message.target, "is reading…")
    slack.slow("agents.sessions.setStatus", 0.3)
    await asyncio.gather(
        stage.connector.show_activity(message.target, ""),
        stage.connector.show_activity(message.target, "is reading…"),
    )
    assert [entry["status"] for entry in statuses(slack)] == ["processing", "active", "processing"]


async def test_a_429_of_the_status_is_believed_and_the_older_one_shown(
    slack: StandInSlack, stage: Stage
) -> None:
    slack.rate_limit("agents.sessions.setStatus", 30)
    for number in range(3):
        await slack.wait_for_ack(slack.mention(BEA, GENERAL, f"number {number}"))
    for message in stage.intake.messages:
        await stage.connector.show_activity(message.target, "is reading…")
    assert len(slack.calls("agents.sessions.setStatus")) == 1
    assert [entry["by"] for entry in statuses(slack)] == ["assistant.threads"] * 3


async def test_a_status_that_cannot_be_shown_harms_nobody(
    slack: StandInSlack, stage: Stage
) -> None:
    await slack.wait_for_ack(slack.mention(BEA, GENERAL, "hello"))
    (message,) = stage.intake.messages
    slack.fail("*setStatus", "cut", times=None)
    await stage.connector.show_activity(message.target, "is reading…")
    slack.heal()
    (effect,) = await stage.effects(message, "an answer all the same")
    await stage.connector.deliver(effect, nothing)
    assert len(slack.posts()) == 1


def statuses(slack: StandInSlack) -> list[Entry]:
    return slack.journal.of("status")


# --- what makes no sense -------------------------------------------------------------------------

HOSTILE_EVENTS: list[dict[str, Any]] = [
    {"type": "message"},
    {"type": "message", "channel": ["C1"], "user": {}, "ts": 17, "text": None},
    {"type": "message", "channel": "D1", "channel_type": "im", "user": BEA, "ts": "not-a-ts"},
    {"type": "app_mention", "channel": "C1", "user": "../../etc", "ts": "1.1", "text": "x"},
    {"type": "app_mention", "channel": "C1", "user": BEA, "ts": "1.1", "thread_ts": {"a": 1}},
]


@pytest.mark.parametrize("event", HOSTILE_EVENTS, ids=range(len(HOSTILE_EVENTS)))
async def test_what_cannot_be_read_is_kept_raw_and_acknowledged(
    slack: StandInSlack, stage: Stage, event: dict[str, Any]
) -> None:
    await slack.wait_for_ack(slack.emit(event))
    (item,) = stage.intake.items
    assert isinstance(item, Unreadable)
    assert json.loads(item.raw)["event"] == event


@pytest.mark.parametrize(
    "frame",
    [
        "not json at all",
        "[]",
        "null",
        '{"type": "hello", "num_connections": "many"}',
        '{"type": "events_api", "envelope_id": 17, "payload": {}}',
        '{"type": "events_api", "envelope_id": "e-1"}',
        '{"type": "events_api", "envelope_id": "e-2", "payload": [1, 2]}',
        '{"type": "slash_commands", "envelope_id": "e-3", "payload": {"command": "/x"}}',
        '{"type": "interactive", "envelope_id": "e-4", "payload": {"type": "block_actions"}}',
        '{"type": "no_such_type", "envelope_id": "e-5", "payload": {"text": "\\ud800"}}',
        '{"a": ' * 3000 + "1" + "}" * 3000,
    ],
    ids=range(11),
)
async def test_no_frame_ends_a_connection(slack: StandInSlack, stage: Stage, frame: str) -> None:
    opened = len(slack.journal.of("ticket"))
    await slack.send_frame(frame)
    said = slack.dm(BEA, "still there?")
    await slack.wait_for_ack(said)
    assert [message.text for message in stage.intake.messages] == ["still there?"]
    assert len(slack.journal.of("ticket")) == opened
    assert stage.connector.health().ready


async def test_a_refused_token_at_start_is_said_and_ends_the_run(
    slack: StandInSlack, tmp_path: Path
) -> None:
    async with on_stage(slack, tmp_path) as stage:
        slack.fail("auth.test", "error", times=None, code="invalid_auth")
        with pytest.raises(AuthenticationFailed, match="bot_token"):
            await stage.start()
        health = stage.connector.health()
        assert not health.ready
        assert "invalid_auth" in health.detail
        assert len(slack.calls()) == 1
    await until(lambda: not slack.sockets.open)


async def nothing() -> None:
    return None
