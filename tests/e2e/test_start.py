"""What a start runs into: another daemon, refused tokens."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.agents import cli_path
from daemon.demo.slack import StandInSlack
from daemon.isolation import users
from daemon.isolation.proof import choose_level
from tests.e2e.conftest import NewDaemon
from tests.integration.isolation_help import passable_place

pytestmark = pytest.mark.e2e

BEA = "U0002"


async def test_a_second_daemon_on_the_same_data_is_refused(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    async with new_daemon() as daemon:
        status, out, error = await daemon.run("run")
        assert status == 75
        assert error.startswith("postroom: ")
        assert error.count("\n") == 1
        assert str(daemon.data) in error
        assert "Traceback" not in out + error
        said = slack.mention(BEA, "C0001", "[[say:still here]]")
        await slack.wait_for_answer(said)


@pytest.fixture
def place() -> Iterator[Path]:
    yield from passable_place()


@pytest.mark.timeout(240)
async def test_each_conversation_has_a_user_where_the_daemon_may_change_users(
    new_daemon: NewDaemon, slack: StandInSlack, place: Path
) -> None:
    daemon = new_daemon(daemon={"data_dir": str(place / "data")})
    daemon.data = place / "data"
    asks = f"[[tool:Bash {json.dumps({'command': 'id -u'})}]]"
    strongest = (await choose_level("auto", place / "x" / "y", cli=cli_path())).level.name
    assert strongest in {"uid", "bwrap"}, "both give users"
    async with daemon:
        assert (await daemon.get("/readyz"))[1]["isolation"] == strongest
        info = f'postroom_isolation_level_info{{level="{strongest}"}} 1.0'
        assert info in (await daemon.get("/metrics"))[1]
        first, other = slack.mention(BEA, "C0001", asks), slack.mention(BEA, "C0002", asks)
        seen = [
            (await slack.wait_for_answer(said, within=60)).text.strip() for said in (first, other)
        ]
        assert len({int(user) for user in seen} & set(users.NUMBERS)) == 2
        await daemon.kill()
        await daemon.start()
        again = slack.mention(BEA, "C0001", asks, first.root)
        assert (await slack.wait_for_answer(again, within=60)).text.strip() == seen[0]
        status, _, error = await daemon.run("backup", str(place / "copy"))
        assert status == 0, error
        assert len([*(place / "copy").rglob("*.jsonl")]) >= 2, "their transcripts are in it"
    os.chmod(place, 0o700)  # noqa: PTH101 - then no user can pass
    async with daemon:
        page = (await daemon.get("/healthz"))[1]
        assert page["isolation"] == "landlock"
        (notice,) = [text for text in page["notices"] if "had users" in text]
        assert f"chmod o+x {place}" in notice, "nothing weakens silently"
        again = slack.mention(BEA, "C0001", asks, first.root)
        assert (await slack.wait_for_answer(again, within=60)).text.strip() == str(os.geteuid())
    private = [path for path in daemon.data.iterdir() if path.name != "conversations"]
    assert [path.name for path in private if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("name", ["bot_token", "app_token"])
async def test_a_refused_token_parks_slack_and_the_rest_works(
    new_daemon: NewDaemon, slack: StandInSlack, name: str
) -> None:
    daemon = new_daemon(secrets={f"SLACK_{name.upper()}": "xoxb-of-somebody-else"})
    await daemon.start(ready=False)
    page = await daemon.until("/readyz", lambda _, text: "parked" in text)
    waiting = json.loads(page)["waiting_for"]
    assert name in waiting["connector:slack"]
    await daemon.until("/healthz", lambda _, text: json.loads(text)["components"]["pool"]["ready"])
    asked = len(slack.calls())
    await asyncio.sleep(3)
    assert len(slack.calls()) == asked, "a parked connector asks no more"
    assert (await daemon.get("/livez"))[0] == 200
    status, page = await daemon.get("/healthz")
    assert status == 503
    parts = page["components"]
    assert parts["ledger"]["state"] == "pass"
    assert "xoxb-of-somebody-else" not in daemon.log.read_text()

    status, found, _ = await daemon.run("doctor", "--json")
    assert status == 1
    failed = [row for row in json.loads(found)["findings"] if row["state"] == "fail"]
    assert [row["part"] for row in failed] == [f"slack.{name}"]
    assert name in failed[0]["mend"], "it says what to do"
