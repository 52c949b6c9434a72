"""What goes wrong with the model and with the agents' processes, and what people are told of it."""

from __future__ import annotations

import json

import pytest

from daemon import texts as said_by_us
from daemon.demo.model import StandInModel
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import MODEL_KEY, NewDaemon
from tests.e2e.looking import agents_of, eventually, texts, transcribed, turns_that_ended

pytestmark = pytest.mark.e2e

BEA, CHIDI = "U0002", "U0003"
GENERAL, NOTICES = "C0001", "C0002"
TOLD_SECONDS = 30.0
AGAIN_SECONDS = 60.0  # the first back-off is ten
RESTED_SECONDS = 180.0  # all wait as long as the API's last refusal has them wait: a minute at most


async def test_a_refused_key_is_told_once_and_shown_and_asked_for_sparingly(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    daemon = new_daemon(
        secrets={"ANTHROPIC_API_KEY": "sk-ant-of-yesterday"},
        daemon={"notify": [f"slack:{NOTICES}"]},
    )
    async with daemon:
        said = slack.mention(BEA, GENERAL, "[[say:at last]]")
        told = await slack.wait_for_answer(said, within=TOLD_SECONDS)
        assert told.text == said_by_us.MODEL_AWAY
        (notice,) = await slack.wait_for_posts(NOTICES)
        assert "key is refused" in notice.text
        status, page = await daemon.get("/healthz")
        assert status == 503
        assert page["components"]["model"]["state"] == "fail"
        assert (await daemon.get("/readyz"))[0] == 200, "Slack and mail are still heard"
        assert len(model.journal) == 1, "a refused key is not tried again and again"

        slack.say(BEA, GENERAL, "hello? [[say:and this]]", said.ts)
        model._api_key = "sk-ant-of-yesterday"  # what the operator would do, from the other side
        posts = await slack.wait_for_posts(GENERAL, said.ts, count=3, within=AGAIN_SECONDS)
        assert [post.text for post in posts] == [said_by_us.MODEL_AWAY, "at last", "and this"]
        await daemon.until("/healthz", lambda status, _: status == 200)
    assert len(slack.posts(NOTICES)) == 1
    assert len(model.journal) == 3


async def test_a_model_that_is_away_is_told_and_what_was_asked_is_answered_later(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    async with new_daemon() as daemon:
        model.fail(529, times=None, text="first")
        model.fail(429, times=None, text="second", retry_after=1)
        asked = [slack.mention(BEA, GENERAL, f"{n} [[say:{n} done]]") for n in ("first", "second")]
        for said in asked:
            told = await slack.wait_for_answer(said, within=TOLD_SECONDS)
            assert told.text == said_by_us.MODEL_AWAY
        tries = len(model.journal)
        assert tries <= 10, "no storm: the CLI's own four tries each, and what came of the next"
        model.clear()
        other = slack.mention(CHIDI, GENERAL, "[[say:others are answered]]")
        await slack.wait_for_posts(GENERAL, other.ts, within=RESTED_SECONDS)
        for said, word in zip(asked, ("first", "second"), strict=True):
            await slack.wait_for_posts(GENERAL, said.ts, count=2, within=RESTED_SECONDS)
            assert texts(slack, GENERAL, said.ts) == [said_by_us.MODEL_AWAY, f"{word} done"]
    assert daemon.logged("turn.finished")[-1]["failures"] == 0, "that was no failure of the turn's"


async def test_an_agent_that_dies_is_replaced_and_its_turn_goes_on(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    note = json.dumps({"command": "echo once >> notes.txt; cat notes.txt"})
    async with new_daemon(pool={"spare_processes": 0}) as daemon:
        gate = model.hold("notes", tool_results=1)
        said = slack.mention(BEA, GENERAL, f"notes [[tool:Bash {note}]]")
        await gate.arrived()
        await eventually(lambda: transcribed(daemon, '"tool_result"'), "the result transcribed")
        (cli,) = agents_of(daemon, "claude")
        cli.kill()
        await model.requests("notes", count=3)
        gate.release()
        assert (await slack.wait_for_answer(said)).text == "once"

        (cli,) = agents_of(daemon, "claude")
        cli.kill()  # while it is idle
        seen = slack.say(BEA, GENERAL, "how often? [[say:just once]]", said.ts)
        assert (await slack.wait_for_answer(seen)).text == "just once"
        assert "echo once" in json.dumps(model.journal[-1].body["messages"])
    assert texts(slack, GENERAL, said.ts) == ["once", "just once"]
    assert turns_that_ended(daemon)[:2] == ["new_attempt", "done"]
    assert [entry["attempt"] for entry in daemon.logged("turn.finished")[:2]] == [1, 2]


async def test_a_turn_past_its_clock_is_set_aside_after_three_tries_and_can_be_tried_again(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    daemon = new_daemon(
        agent={"turn_timeout_seconds": 3},
        daemon={"notify": [f"slack:{NOTICES}"]},
    )
    async with daemon:
        gate = model.hold("for ever")
        said = slack.mention(BEA, GENERAL, "for ever [[say:not for ever]]")
        told = await slack.wait_for_answer(said, within=60)
        assert told.text == said_by_us.GAVE_UP
        assert len(await model.requests("for ever")) <= 3
        (notice,) = await slack.wait_for_posts(NOTICES)
        status, listed, _ = await daemon.run("dead", "list", "--json")
        assert status == 0
        (letter,) = json.loads(listed)["dead"]
        assert letter["id"] in notice.text

        after = slack.say(BEA, GENERAL, "something else [[say:sure]]", said.ts)
        assert (await slack.wait_for_answer(after)).text == "sure"
        gate.release()
        status, _, error = await daemon.run("dead", "retry", letter["id"])
        assert (status, error) == (0, "")
        await slack.wait_for_posts(GENERAL, said.ts, count=3, within=60)
        assert texts(slack, GENERAL, said.ts) == [said_by_us.GAVE_UP, "sure", "not for ever"]
        await eventually(lambda: len(slack.posts(NOTICES)) == 1, "one notice")
    assert MODEL_KEY not in daemon.log.read_text()


async def test_an_agent_that_fills_the_disk_is_stopped_and_can_be_asked_to_delete(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    fill = json.dumps({"command": "head -c 200M /dev/zero > big; sleep 100"})
    delete = json.dumps({"command": "rm big; echo deleted; sleep 12"})
    daemon = new_daemon(
        pool={"disk_limit_mb": 64, "spare_processes": 0},
        daemon={"notify": [f"slack:{NOTICES}"]},
    )
    async with daemon:
        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {fill}]][[say:never]]")
        assert (await slack.wait_for_answer(said, within=60)).text == said_by_us.OUTGROWN
        assert not agents_of(daemon), "nothing goes on writing"
        (notice,) = await slack.wait_for_posts(NOTICES)
        assert "pool.disk_limit_mb" in notice.text

        again = slack.say(BEA, GENERAL, f"[[tool:Bash {delete}]]", said.ts)
        assert (await slack.wait_for_answer(again, within=60)).text == "deleted"
        _, page = await daemon.get("/metrics")
        assert 'postroom_turns_total{outcome="outgrown"} 1.0' in page
    assert turns_that_ended(daemon) == ["outgrown", "done"]
