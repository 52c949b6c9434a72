"""What people wrote while the connector was down or deaf is read back: once, in order, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.slack import backfill
from connectors.slack.backfill import MARGIN_SECONDS
from daemon.demo.slack import Delivering, Said, StandInSlack
from daemon.errors import AuthenticationFailed
from daemon.model import ConversationId, Edited, HealthState, Outcome, Stop
from tests.integration.slack_stage import Stage, on_stage, until

BEA, CHIDI, GUEST = "U0002", "U0003", "U0004"
GENERAL, PRIVATE = "C0001", "C0003"
HOUR, DAY = 3600.0, 24 * 3600.0
# What finds no connection, or no answer, is never brought again: only reading it back helps.
ONCE = Delivering(ack_timeout=0.2, retry_delays=())


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack(delivering=ONCE) as running:
        yield running


@pytest.fixture
async def root(slack: StandInSlack, tmp_path: Path) -> Said:
    """A thread that became ours in an earlier life of the connector, which ended."""
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        said = slack.mention(BEA, GENERAL, "our thread")
        await stage.intake.message()
        await stage.filled()
    return said


def proven(data_dir: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((data_dir / "slack" / "proven.json").read_text())
    return facts


def proven_since(data_dir: Path, seconds_ago: float, first: float = 30 * DAY) -> None:
    """As if the last proof were so long ago."""
    facts = proven(data_dir)
    facts |= {
        "proven_at": facts["proven_at"] - seconds_ago,
        "first_at": facts["first_at"] - first,
    }
    (data_dir / "slack" / "proven.json").write_text(json.dumps(facts))


def texts(stage: Stage) -> list[str]:
    return [message.text for message in stage.intake.messages]


def of(stage: Stage, channel: str, thread: str) -> list[str]:
    name = f"slack:T0001:{channel}:{thread}"
    return [m.text for m in stage.intake.messages if m.conversation == name]


def ours(stage: Stage, root: Said) -> None:
    """The ledger of this life knows the thread."""
    stage.intake.ours = (ConversationId(f"slack:T0001:{root.channel}:{root.ts}"),)


# --- what is heard -------------------------------------------------------------------------------


async def test_what_was_written_while_it_was_down_is_heard_once_and_in_order(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    slack.say(CHIDI, GENERAL, "one", root.ts)
    slack.say(BEA, GENERAL, "two", root.ts)
    slack.say(BEA, GENERAL, "lunch?")
    human = slack.say(BEA, PRIVATE, "among ourselves")
    slack.mention(BEA, PRIVATE, "what do you think?", human.ts)
    fresh = slack.mention(BEA, PRIVATE, "a new thread")
    slack.say(BEA, PRIVATE, "and more", fresh.ts)
    direct = slack.dm(CHIDI, "in private")
    slack.dm(CHIDI, "and again", direct.ts)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        ours(stage, root)
        await stage.start()
        await stage.filled()
        assert of(stage, GENERAL, root.ts)[-2:] == ["one", "two"]
        assert of(stage, PRIVATE, human.ts) == ["what do you think?"]
        assert of(stage, PRIVATE, fresh.ts) == ["a new thread", "and more"]
        assert of(stage, "D0003", direct.ts) == ["in private", "and again"]
        assert not any("lunch" in text for text in texts(stage))
        assert len(texts(stage)) == len(set(texts(stage)))
        assert slack.journal.of("delivery")[-1]["socket"] is None, "no event brought them"


async def test_a_deaf_connection_hides_nothing_for_good(
    slack: StandInSlack, tmp_path: Path
) -> None:
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        slack.black_hole()
        said = slack.dm(BEA, "can you hear me?")
        await slack.wait_for(lambda entry: entry["kind"] == "gave_up")
        assert texts(stage) == []
        await until(lambda: not stage.connector.health().ready)
        slack.heal()
        message = await stage.intake.message()
        assert message.outside_id == f"T0001:{said.channel}:{said.ts}"
        await stage.filled(2)


async def test_an_event_that_comes_after_all_is_no_second_message(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    said = slack.mention(BEA, GENERAL, "still there?")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        for entry in slack.journal.of("event"):
            if entry["event_id"] in said.events:
                await slack.wait_for_ack(slack.deliveries.publish(entry["payload"]))
        assert texts(stage).count("still there?") == 1
        assert Outcome.DUPLICATE in stage.intake.outcomes
        del root


async def test_what_was_changed_while_nobody_heard_is_read_back_as_it_is_now(
    slack: StandInSlack, tmp_path: Path
) -> None:
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        said = slack.dm(BEA, "befroe")
        await slack.wait_for_ack(said)
        slack.black_hole()
        slack.edit(said.channel, said.ts, "before")
        await slack.wait_for(lambda entry: entry["kind"] == "gave_up")
        await until(lambda: not stage.connector.health().ready)
        slack.heal()
        await stage.filled(2)
        (edited,) = [item for item in stage.intake.items if isinstance(item, Edited)]
        assert (edited.message.text, texts(stage)) == ("before", ["befroe"])


async def test_events_are_heard_while_what_was_missed_is_still_being_read(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    slack.dm(BEA, "missed")
    slack.fail("conversations.history", "hang", times=None)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await slack.wait_for_ack(slack.dm(CHIDI, "live"))
        assert texts(stage) == ["live"]
        assert stage.connector.health().ready
        slack.heal()
        await stage.filled()
        assert sorted(texts(stage))[:2] == ["live", "missed"]
        del root


async def test_a_stop_that_somebody_wrote_after_is_over(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    slack.say(BEA, GENERAL, "stop", root.ts)
    slack.say(BEA, GENERAL, "no, go on", root.ts)
    direct = slack.dm(BEA, "a question")
    slack.dm(BEA, "stop", direct.ts)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        ours(stage, root)
        await stage.start()
        await stage.filled()
        stops = [item.conversation for item in stage.intake.items if isinstance(item, Stop)]
        assert set(stops) == {f"slack:T0001:D0002:{direct.ts}"}
        assert "no, go on" in texts(stage)


async def test_guests_are_refused_and_bots_are_skipped_when_read_back_too(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    slack.mention("U0006", "C0004", "from elsewhere")
    slack.mention("U0007", GENERAL, "I am a bot")
    slack.dm(BEA, "a member")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert set(texts(stage)) == {"a member", "our thread"}
        del root


# --- how far back --------------------------------------------------------------------------------


async def test_nothing_from_before_the_first_start_is_answered(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.mention(BEA, GENERAL, "before your time")
    slack.dm(BEA, "me too")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert texts(stage) == []


async def test_it_reads_from_ten_minutes_before_the_last_proof_and_at_most_a_day(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    proven_since(tmp_path, 2 * HOUR)
    slack.dm(BEA, "within the margin", ago=2 * HOUR + MARGIN_SECONDS - 60)
    slack.dm(BEA, "before it", ago=2 * HOUR + MARGIN_SECONDS + 60)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert "within the margin" in texts(stage)
        assert "before it" not in texts(stage)
    proven_since(tmp_path, 3 * DAY)
    slack.dm(BEA, "yesterday", ago=DAY - 60)
    slack.dm(BEA, "the day before", ago=DAY + 60)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert "yesterday" in texts(stage)
        assert "the day before" not in texts(stage)
        del root


async def test_what_another_bot_left_behind_is_not_believed(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    proven_since(tmp_path, HOUR)
    facts = proven(tmp_path) | {"bot": "U0OTHER"}
    (tmp_path / "slack" / "proven.json").write_text(json.dumps(facts))
    slack.dm(BEA, "to somebody else")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert texts(stage) == []
        del root


async def test_what_was_not_read_to_its_end_is_still_owed_after_a_restart(
    slack: StandInSlack, root: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "KEEP_EVERY_SECONDS", 0.01)
    file = tmp_path / "slack" / "proven.json"
    before = proven(tmp_path)["proven_at"]
    slack.dm(BEA, "missed")
    slack.fail("conversations.history", "status", times=None, status=503)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await until(lambda: len(slack.calls("conversations.history")) > 2)
        written = file.stat().st_mtime_ns
        await until(lambda: file.stat().st_mtime_ns > written)
    assert proven(tmp_path)["proven_at"] == before
    slack.heal()
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        assert "missed" in texts(stage)
        assert proven(tmp_path)["proven_at"] > before
        del root


# --- what goes wrong while it reads --------------------------------------------------------------


async def test_limits_failures_and_a_full_disk_are_waited_out_and_nothing_is_left_out(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    said = [slack.dm(BEA, f"number {n}") for n in range(250)]  # more than a page
    slack.rate_limit("users.conversations", 1)
    slack.fail("conversations.history", "status", times=2, status=500)
    slack.fail("conversations.history", "cut")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        stage.intake.failures = 1
        await stage.start()
        await stage.filled()
        assert [text for text in texts(stage) if "number" in text] == [m.text for m in said]
        del root


async def test_a_missing_scope_is_one_clear_warning_and_the_rest_is_read(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    slack.workspace.scopes.remove("im:read")
    slack.workspace.scopes.remove("groups:history")
    slack.dm(BEA, "nobody lists this")
    slack.mention(BEA, PRIVATE, "nor may this be read")
    slack.mention(BEA, GENERAL, "this is read")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        ours(stage, root)
        await stage.start()
        await stage.filled()
        assert set(texts(stage)) == {"our thread", "this is read"}
        health = stage.connector.health()
        assert (health.state, health.ready) == (HealthState.WARN, True)
        assert "groups:history, im:read" in health.detail
        assert "postroom slack manifest" in health.detail
        await slack.wait_for_ack(slack.dm(BEA, "live all the same"))
        assert "live all the same" in texts(stage)


async def test_a_token_revoked_meanwhile_parks_the_connector_and_all_of_it_stays_owed(
    slack: StandInSlack, root: Said, tmp_path: Path
) -> None:
    before = proven(tmp_path)["proven_at"]
    slack.fail("conversations.history", "error", times=None, code="token_revoked")
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        stage.task = asyncio.create_task(stage.connector.run(stage.intake, stage.ready))
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            await stage.task
    assert proven(tmp_path)["proven_at"] == before
    del root


async def test_reading_back_keeps_below_slacks_limits(tmp_path: Path) -> None:
    async with StandInSlack(limits=True, delivering=ONCE) as slack:
        async with on_stage(slack, tmp_path, sockets=1) as stage:
            await stage.start()
            await stage.filled()
        proven_since(tmp_path, HOUR)
        for number in range(12):
            fresh = slack.mention(BEA, GENERAL, f"thread {number}")
            slack.say(BEA, GENERAL, "more", fresh.ts)
        async with on_stage(slack, tmp_path, sockets=1) as stage:
            await stage.start()
            await stage.filled()
            assert len(texts(stage)) == 24
        assert {call["status"] for call in slack.calls("conversations.replies")} == {200}
