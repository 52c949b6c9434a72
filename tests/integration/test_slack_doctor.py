"""`postroom doctor` tries Slack's tokens and scopes, and says for each how to mend it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.slack.diagnosis import NEEDED, WANTED
from connectors.slack.manifest import manifest
from daemon.demo.slack import StandInSlack
from daemon.model import Finding, HealthState
from daemon.ports import Diagnoses
from tests.integration.slack_stage import on_stage, secret


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack() as running:
        yield running


async def examined(slack: StandInSlack, tmp_path: Path, **keys: Any) -> dict[str, Finding]:
    async with on_stage(slack, tmp_path, **keys) as stage:
        assert isinstance(stage.connector, Diagnoses)
        found = await stage.connector.diagnose(live=False)
    assert slack.journal.of("socket") == [], "no connection is opened"
    return {finding.part: finding for finding in found}


async def test_a_sound_app_passes_and_is_named(slack: StandInSlack, tmp_path: Path) -> None:
    found = await examined(slack, tmp_path)
    assert {finding.state for finding in found.values()} == {HealthState.PASS}
    assert set(found) == {"slack.bot_token", "slack.scopes", "slack.app_token"}
    assert found["slack.bot_token"].detail == "@postroom in Postroom"


@pytest.mark.parametrize(
    ("name", "token", "code"),
    [
        ("bot_token", "xoxb-wrong", "invalid_auth"),
        ("bot_token", StandInSlack.app_token, "not_allowed_token_type"),
        ("app_token", "xapp-wrong", "invalid_auth"),
        ("app_token", StandInSlack.bot_token, "not_allowed_token_type"),
    ],
)
async def test_a_refused_token_is_named_with_its_mend(
    slack: StandInSlack, tmp_path: Path, name: str, token: str, code: str
) -> None:
    found = await examined(slack, tmp_path, **{name: secret(token)})
    failed = [finding for finding in found.values() if finding.state is not HealthState.PASS]
    assert [finding.part for finding in failed] == [f"slack.{name}"]
    assert code in failed[0].detail
    assert {"bot_token": "xoxb-...", "app_token": "xapp-..."}[name] in failed[0].mend
    assert token not in f"{failed[0].detail} {failed[0].mend}"


async def test_missing_scopes_are_named_with_what_is_lost_by_them(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.workspace.scopes.remove("assistant:write")
    scopes = (await examined(slack, tmp_path))["slack.scopes"]
    assert scopes.state is HealthState.WARN
    assert "assistant:write (no status" in scopes.detail
    slack.workspace.scopes.remove("chat:write")
    scopes = (await examined(slack, tmp_path))["slack.scopes"]
    assert scopes.state is HealthState.FAIL
    assert "chat:write (no answer" in scopes.detail
    assert "postroom slack manifest" in scopes.mend


async def test_slack_out_of_reach_is_a_finding_and_no_error(tmp_path: Path) -> None:
    async with StandInSlack() as slack:
        pass
    found = await examined(slack, tmp_path)
    assert [finding.state for finding in found.values()] == [HealthState.FAIL] * 2
    assert all("cannot be reached" in finding.detail for finding in found.values())
    assert all("api_url" in finding.mend for finding in found.values())


async def test_an_answer_that_is_none_of_slacks_is_a_finding(
    slack: StandInSlack, tmp_path: Path
) -> None:
    slack.fail("*", "html", times=None)
    found = await examined(slack, tmp_path)
    assert [finding.state for finding in found.values()] == [HealthState.FAIL] * 2
    slack.heal()
    slack.rate_limit("apps.connections.open", 30, times=None)
    assert (await examined(slack, tmp_path))["slack.app_token"].state is HealthState.WARN


def test_the_manifest_asks_for_just_these_scopes() -> None:
    scopes = manifest().partition("bot:")[2].partition("settings:")[0]
    assert set(re.findall(r"- ([a-z_]+:[a-z.]+)", scopes)) == NEEDED.keys() | WANTED.keys()
