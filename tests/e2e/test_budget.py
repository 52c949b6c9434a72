"""Money is bounded: what a spent budget looks like to people, and what the model is asked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest

from daemon import texts as said_by_us
from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.script import Reply, ToolCall, directed, read_ask
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import texts

pytestmark = pytest.mark.e2e

ADA, BEA, CHIDI = "U0001", "U0002", "U0003"  # Ada is an operator
GENERAL, NOTICES = "C0001", "C0002"
# US dollars. A request of the CLI is some 20 kB: before it is made it holds about 0.03, and comes
# to 0.01 where the answer is short. A LONG answer comes to 0.028 more.
ONE_CALL = 0.05
LONG = "the last one" + " and on" * 1600
MILLION = 1_000_000


async def test_a_turn_that_spent_its_budget_ends_with_a_plain_sentence(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    work = json.dumps({"command": "echo worked # " + "x" * 10_000})
    daemon = new_daemon(budgets={"per_turn": ONE_CALL}, daemon={"notify": [f"slack:{NOTICES}"]})
    async with daemon:
        dear = slack.mention(BEA, GENERAL, f"[[tool:Bash {work}]][[say:never]]")
        assert (await slack.wait_for_answer(dear)).text == said_by_us.TURN_BUDGET
        assert len(model.journal) == 1, "the call that could go beyond it is not made"
        cheap = slack.mention(BEA, GENERAL, "[[say:one call]]")
        assert (await slack.wait_for_answer(cheap)).text == "one call"
        (notice,) = await slack.wait_for_posts(NOTICES)
        assert "budget" in notice.text
        _, page = await daemon.get("/metrics")
        assert 'postroom_budget_refusals_total{scope="per_turn"} 1.0' in page
    assert texts(slack, GENERAL, dear.ts) == [said_by_us.TURN_BUDGET]


def talks(body: Mapping[str, Any]) -> Reply:
    """Does as it is told, and writes at length where that is what it is told."""
    return Reply(LONG) if "at length" in read_ask(body).prompt else directed(body)


def never_stops(body: Mapping[str, Any]) -> Reply:
    """A model that is stuck: it calls a tool, whatever the tool says."""
    return Reply(calls=(ToolCall("Bash", {"command": f"echo {len(body['messages'])}"}),))


def cost(usage: Mapping[str, int]) -> float:
    """US dollars of one call of Sonnet 5, by its published prices."""
    return (
        usage["input_tokens"] * 2
        + usage["cache_creation_input_tokens"] * 2.5
        + usage["cache_read_input_tokens"] * 0.2
        + usage["output_tokens"] * 10
    ) / MILLION


async def test_a_model_that_never_stops_calling_tools_costs_no_more_than_its_budget(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    model.script = never_stops
    async with new_daemon(budgets={"per_turn": ONE_CALL}, agent={"max_turns": 1000}):
        stuck = slack.mention(BEA, GENERAL, "go")
        assert (await slack.wait_for_answer(stuck, within=90)).text == said_by_us.TURN_BUDGET
        spent = sum(cost(entry.usage) for entry in model.journal)
        assert len(model.journal) > 3
        assert 0.01 < spent <= ONE_CALL


async def test_a_spent_day_is_told_at_once_and_nothing_more_is_asked(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    model.script = talks
    async with new_daemon(budgets={"daily": ONE_CALL}) as daemon:
        first = slack.mention(BEA, GENERAL, "at length, please")
        assert (await slack.wait_for_answer(first)).text.startswith("the last one")
        waiting = [
            slack.say(BEA, GENERAL, "[[say:tomorrow]]", first.ts),
            slack.mention(CHIDI, GENERAL, "[[say:tomorrow, too]]"),
        ]
        for said in waiting:
            assert (await slack.wait_for_answer(said)).text == said_by_us.DAILY_BUDGET
        slack.say(BEA, GENERAL, "[[say:and this]]", first.ts)
        assert len(model.journal) == 1

        await daemon.stop()
        await daemon.start()
        third = slack.dm(BEA, "[[say:tomorrow as well]]")
        assert (await slack.wait_for_answer(third)).text == said_by_us.DAILY_BUDGET
        await daemon.until("/healthz", lambda _, page: queued(page) == 3)
        assert len(model.journal) == 1, "a restart does not forget what was spent"
        assert texts(slack, GENERAL, first.ts).count(said_by_us.DAILY_BUDGET) == 1

        raised = daemon.config.read_text().replace(f"daily = {ONE_CALL}", "daily = 100.0")
        daemon.config.write_text(raised)
        os.kill(daemon.pid, signal.SIGHUP)
        for said in (waiting[1], third):
            told = await slack.wait_for_posts(said.channel, said.ts, count=2)
            assert told[1].text.startswith("tomorrow"), "nobody has to wait for midnight then"


async def test_an_operator_sees_what_is_spent_and_gives_one_person_more(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    model.script = talks
    budgets = {"per_sender_daily": ONE_CALL}
    async with new_daemon(budgets=budgets, daemon={"notify": [f"slack:{NOTICES}"]}) as daemon:
        first = slack.mention(BEA, GENERAL, "at length, please")
        assert (await slack.wait_for_answer(first)).text.startswith("the last one")
        waits = slack.mention(BEA, GENERAL, "[[say:more]]")
        assert (await slack.wait_for_answer(waits)).text == said_by_us.SENDER_BUDGET
        other = slack.mention(CHIDI, GENERAL, "[[say:mine is my own]]")
        assert (await slack.wait_for_answer(other)).text == "mine is my own"
        notices = await slack.wait_for_posts(NOTICES, count=2)
        (name,) = {word for word in notices[1].text.split() if word.startswith("per_sender_daily:")}
        assert "spent to 75 %" in notices[0].text
        assert "is spent" in notices[1].text

        assert (await ran(daemon, "budgets", "raise", name, "5")).startswith(f"{name}: $5.00 more")
        told = await slack.wait_for_posts(waits.channel, waits.ts, count=2)
        assert told[1].text == "more"
        assert f"{name}  $0.0" in await ran(daemon, "budgets", "list")

        await daemon.stop()
        await daemon.start()
        again = slack.mention(BEA, GENERAL, "[[say:still more]]")
        assert (await slack.wait_for_answer(again)).text == "still more", (
            "a restart forgets nothing"
        )


async def test_an_operator_raises_a_budget_by_a_button_where_it_is_refused(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    model.script = talks
    daemon = new_daemon(
        budgets={"per_sender_daily": ONE_CALL}, trust={"operators": [f"slack:T0001:{ADA}"]}
    )
    async with daemon:
        first = slack.mention(BEA, GENERAL, "at length, please")
        assert (await slack.wait_for_answer(first)).text.startswith("the last one")
        waits = slack.mention(BEA, GENERAL, "[[say:more]]")
        post = await slack.wait_for_answer(waits)
        offer = said_by_us.OFFER.format(dollars=ONE_CALL)
        assert post.text == f"{said_by_us.SENDER_BUDGET} {offer}"
        slack.click(BEA, GENERAL, post.ts, "approve")
        told = await slack.wait_for(lambda entry: entry["kind"] == "ephemeral")
        assert (told["user"], told["text"]) == (BEA, said_by_us.ONLY_OPERATORS)
        slack.click(ADA, GENERAL, post.ts, "approve")
        posts = await slack.wait_for_posts(GENERAL, waits.ts, count=2)
        raised = said_by_us.RAISED.format(who="ada", dollars=ONE_CALL)
        assert [post.text for post in posts] == [raised, "more"]
        assert f"${2 * ONE_CALL:.2f}" in await ran(daemon, "budgets", "list")
        exported = [
            json.loads(line) for line in (await ran(daemon, "audit", "export")).split("\n") if line
        ]
        (record,) = [each for each in exported if each["what"] == "budget.raised"]
        assert record["by"].startswith("person-")


async def test_a_conversation_is_warned_in_its_thread_and_ends_with_its_budget(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    model.script = talks
    async with new_daemon(budgets={"per_conversation": ONE_CALL}):
        first = slack.mention(BEA, GENERAL, "at length, please")
        await slack.wait_for_posts(GENERAL, first.ts, containing="the last one")
        warning = said_by_us.NEAR_BUDGET.format(percent=75)
        await slack.wait_for_posts(GENERAL, first.ts, containing=warning)
        over = slack.say(BEA, GENERAL, "[[say:never]]", first.ts)
        assert (await slack.wait_for_answer(over)).text == said_by_us.CONVERSATION_BUDGET
        assert len(model.journal) == 1
        fresh = slack.mention(BEA, GENERAL, "[[say:a new one]]")
        assert (await slack.wait_for_answer(fresh)).text == "a new one"


async def ran(daemon: DaemonProcess, *words: str) -> str:
    """What a command says beside the daemon."""
    status, out, err = await daemon.run(*words)
    assert status == 0, err
    return out


def queued(page: str) -> int | None:
    """How many turns wait, as the health page says: it looks every two seconds."""
    numbers = json.loads(page)["components"]["ledger"]["numbers"]
    return int(numbers["queued"]) if "queued" in numbers else None
