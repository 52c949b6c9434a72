"""Socket Mode as it really goes: tickets, refreshes, losses; and how soon the daemon notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from connectors.slack import echoes
from connectors.slack.connection import Timing
from daemon.demo.slack import Delivering, StandInSlack
from daemon.errors import AuthenticationFailed
from daemon.model import HealthState, Sent
from tests.integration.slack_stage import QUICK, Stage, on_stage, until

BEA = "U0002"
AGAIN = Delivering(ack_timeout=3.0, retry_delays=(0.0,) * 20, hold_unconnected=True)
SEEN_SECONDS = 15.0  # SURFACE: /readyz shows it so long after the fault at the latest


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack(delivering=AGAIN) as running:
        yield running


@pytest.fixture
async def stage(slack: StandInSlack, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(slack, tmp_path, sockets=1) as made:
        await made.start()
        yield made


async def hears(slack: StandInSlack, stage: Stage, text: str = "do you hear me?") -> None:
    await slack.wait_for_ack(slack.dm(BEA, text))
    heard = [message.text for message in stage.intake.messages]
    assert heard.count(text) == 1


def tickets(slack: StandInSlack) -> int:
    return len(slack.journal.of("ticket"))


# --- tickets -------------------------------------------------------------------------------------


async def test_dead_tickets_at_the_first_connect_are_thrown_away(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.dead_tickets(3)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await hears(slack, stage)
    refused = [entry["ticket"] for entry in slack.journal.of("socket") if "ticket" in entry]
    assert len(refused) == len(set(refused)) == 3, "no ticket is tried twice"
    assert tickets(slack) == 4


async def test_a_dead_ticket_at_a_refresh_is_thrown_away_and_nothing_is_lost(
    slack: StandInSlack, stage: Stage
) -> None:
    slack.dead_tickets(2)
    since = len(slack.journal.entries)
    await slack.disconnect("refresh_requested", close_after=0.3)
    said = [slack.dm(BEA, f"number {n}") for n in range(5)]
    for message in said:
        await slack.wait_for_ack(message)
    await slack.wait_for(
        lambda entry: entry["kind"] == "socket" and entry["what"] == "opened", since=since
    )
    await until(lambda: stage.connector.health().ready)
    assert len(stage.intake.messages) == 5


@pytest.mark.parametrize("code", ["invalid_auth", "not_allowed_token_type", "token_revoked"])
async def test_a_refused_app_token_ends_the_run_and_says_so(
    slack: StandInSlack, tmp_path: Path, code: str
) -> None:
    slack.fail("apps.connections.open", "error", times=None, code=code)
    async with on_stage(slack, tmp_path) as stage:
        with pytest.raises(AuthenticationFailed, match=f"app_token .{code}"):
            await stage.start()
        health = stage.connector.health()
        assert not health.ready
        assert code in health.detail
    assert len(slack.calls("apps.connections.open")) <= 2, "each socket asked once, at most"


async def test_a_slack_that_is_down_is_waited_for_with_growing_pauses(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.fail("*", "status", times=None, status=503)
    timing = replace(QUICK, first_wait=0.2, last_wait=10.0)
    async with on_stage(slack, tmp_path, timing=timing, sockets=1) as stage:
        stage.task = asyncio.create_task(stage.connector.run(stage.intake, stage.ready))
        await asyncio.sleep(2.0)
        health = stage.connector.health()
        assert not health.ready
        assert "503" in health.detail
        assert len(slack.calls()) <= 8, "no storm while Slack is down"
        slack.heal()
        await slack.wait_connected()
        await hears(slack, stage)


# --- announced ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_an_announced_end_leaves_no_gap(
    slack: StandInSlack, tmp_path: Path, reason: Literal["warning", "refresh_requested"]
) -> None:
    patient = replace(QUICK, linger=4.0)  # it covers the successor's opening on a busy machine, too
    async with on_stage(slack, tmp_path, timing=patient, sockets=1) as stage:
        await stage.start()
        before = tickets(slack)
        await slack.disconnect(reason)  # the old connection stays open: events may still come on it
        ready = []
        said = []
        for number in range(20):
            said.append(slack.dm(BEA, f"number {number}"))
            ready.append(stage.connector.health().ready)
            await asyncio.sleep(0.02)
        for message in said:
            await slack.wait_for_ack(message)
        assert all(ready)
        assert len(stage.intake.messages) == 20
        assert {entry["attempt"] for entry in slack.journal.of("delivery")} == {0}
        await until(lambda: len(slack.sockets.open) == 1)
        assert tickets(slack) == before + 1


async def test_too_many_connections_are_answered_by_patience(
    slack: StandInSlack, tmp_path: Path
) -> None:
    timing = replace(QUICK, crowded=1.0)
    async with on_stage(slack, tmp_path, timing=timing, sockets=1) as stage:
        await stage.start()
        for _ in range(2):
            before, began = tickets(slack), time.monotonic()
            await slack.disconnect("too_many_websockets", close_after=0.0)
            await until(lambda: not slack.sockets.open)
            await slack.wait_connected()
            assert time.monotonic() - began >= 1.0
            assert tickets(slack) == before + 1
        await hears(slack, stage)


async def test_socket_mode_switched_off_is_said_and_tried_seldom(
    slack: StandInSlack, tmp_path: Path
) -> None:
    timing = replace(QUICK, disabled=2.0)
    async with on_stage(slack, tmp_path, timing=timing, sockets=1) as stage:
        await stage.start()
        before, began = tickets(slack), time.monotonic()
        await slack.disconnect("link_disabled", close_after=0.0)
        await until(lambda: "switched off" in stage.connector.health().detail)
        assert not stage.connector.health().ready
        await slack.wait_connected()
        assert time.monotonic() - began >= 2.0
        assert tickets(slack) == before + 1
        await until(lambda: stage.connector.health().ready)


# --- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_lost_connection_is_opened_again_and_nothing_is_lost(
    slack: StandInSlack, stage: Stage, how: Literal["close", "abort"]
) -> None:
    slack.lose_sockets_after_delivery(2, how)
    for number in range(6):
        await slack.wait_for_ack(slack.dm(BEA, f"number {number}"))
    assert sorted(m.text for m in stage.intake.messages) == [f"number {n}" for n in range(6)]
    await until(lambda: stage.connector.health().ready)


async def test_connections_that_end_at_their_hello_are_no_storm(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.close_at_hello(5)
    timing = replace(QUICK, first_wait=0.2, last_wait=2.0, steady=5.0)
    async with on_stage(slack, tmp_path, timing=timing, sockets=1) as stage:
        began = time.monotonic()
        await stage.start()
        assert time.monotonic() - began > 1.0, "pauses grow: 0.1 + 0.2 + 0.4 + 0.8 s at least"
        await hears(slack, stage)


async def test_with_two_connections_the_loss_of_one_is_no_outage(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slow = replace(QUICK, first_wait=4.0, last_wait=4.0)
    async with on_stage(slack, tmp_path, timing=slow, sockets=2) as stage:
        await stage.start(sockets=2)
        await until(lambda: stage.connector.health().numbers["sockets"] == 2)
        await slack.sockets.lose(slack.sockets.open[:1], "abort")
        await until(lambda: stage.connector.health().numbers["sockets"] == 1)
        assert stage.connector.health().ready
        await hears(slack, stage)
        assert {entry["attempt"] for entry in slack.journal.of("delivery")} == {0}
        await until(lambda: stage.connector.health().numbers["sockets"] == 2)


async def test_a_deaf_connection_of_two_is_replaced(slack: StandInSlack, tmp_path: Path) -> None:
    async with on_stage(slack, tmp_path, sockets=2) as stage:
        await stage.start(sockets=2)
        deaf = slack.sockets.open[0]
        deaf.deaf = True
        await slack.wait_for(
            lambda entry: (
                entry["kind"] == "socket"
                and entry["what"] == "closed"
                and entry["socket"] == deaf.number
            )
        )
        assert stage.connector.health().ready
        await slack.wait_connected(2)
        await hears(slack, stage)


async def test_a_black_hole_is_seen_within_fifteen_seconds_and_left_again(
    slack: StandInSlack, tmp_path: Path
) -> None:
    """With the real timing: this one takes its ten seconds."""
    async with on_stage(slack, tmp_path, timing=Timing(apart=0.0), sockets=2) as stage:
        await stage.start(sockets=2)
        began = time.monotonic()
        slack.black_hole()
        await until(lambda: not stage.connector.health().ready, within=SEEN_SECONDS)
        assert time.monotonic() - began < SEEN_SECONDS
        assert stage.connector.health().detail
        slack.heal()
        await until(lambda: stage.connector.health().ready, within=60)
        await hears(slack, stage)


async def test_a_strange_instance_of_the_same_app_is_noticed(
    slack: StandInSlack, tmp_path: Path
) -> None:
    async with (
        on_stage(slack, tmp_path / "a", sockets=1) as ours,
        on_stage(slack, tmp_path / "b", sockets=1) as stray,
    ):
        await ours.start()
        await stray.start(sockets=2)
        health = stray.connector.health()
        assert (health.numbers["num_connections"], health.numbers["sockets"]) == (2, 1)
        assert (health.state, health.ready) == (HealthState.WARN, True)
        assert "2 connections of this app, 1 of them not ours" in health.detail
        await ours.stop()
        # It is counted anew, by a connection that takes the other's place without a gap.
        await until(lambda: stray.connector.health().state is HealthState.PASS)
        await hears(slack, stray)


async def test_posts_that_come_back_are_seen_and_those_that_do_not_are_told(
    slack: StandInSlack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echoes, "DUE_SECONDS", 0.5)
    monkeypatch.setattr(echoes, "LOOK_SECONDS", 0.1)
    async with on_stage(slack, tmp_path, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        slack.mention(BEA, "C0001", "a question")
        message = await stage.intake.message()

        async def post(key: str) -> None:
            (effect,) = await stage.effects(message, "an answer", key)
            assert isinstance(await stage.connector.deliver(effect, nothing), Sent)

        await post("first")
        await until(lambda: stage.connector.health().numbers["echo_age_seconds"] is not None)
        slack.echo = False  # as where another program gets the events, or none come at all
        for key in ("second", "third"):
            await post(key)
            await asyncio.sleep(1.0)  # Slack's limit: one a second to a channel
        await until(lambda: "did not come back" in stage.connector.health().detail)
        health = stage.connector.health()
        assert (health.state, health.ready) == (HealthState.WARN, True)
        await stage.filled(2)
        slack.echo = True
        await post("fourth")
        await until(lambda: stage.connector.health().state is HealthState.PASS)


async def nothing() -> None:
    return None
