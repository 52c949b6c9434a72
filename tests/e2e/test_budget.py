"""Money is bounded: what a spent budget looks like to a person, and what the model is asked."""

from __future__ import annotations

import json
import os
import signal

import pytest

from daemon import texts as said_by_us
from daemon.demo.model import StandInModel
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import texts

pytestmark = pytest.mark.e2e

BEA, CHIDI = "U0002", "U0003"
GENERAL, NOTICES = "C0001", "C0002"
TINY = 0.0001  # US dollars: any one call of the stand-in's costs more


async def test_a_turn_that_spent_its_budget_ends_with_a_plain_sentence(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    work = json.dumps({"command": "echo worked"})
    daemon = new_daemon(budgets={"per_turn": TINY}, daemon={"notify": [f"slack:{NOTICES}"]})
    async with daemon:
        dear = slack.mention(BEA, GENERAL, f"[[tool:Bash {work}]][[say:never]]")
        assert (await slack.wait_for_answer(dear)).text == said_by_us.TURN_BUDGET
        assert len(model.journal) == 1, "the call that would go beyond it is not made"
        cheap = slack.say(BEA, GENERAL, "[[say:one call]]", dear.ts)
        assert (await slack.wait_for_answer(cheap)).text == "one call"
        (notice,) = await slack.wait_for_posts(NOTICES)
        assert "budget" in notice.text
        _, page = await daemon.get("/metrics")
        assert 'postroom_budget_refusals_total{scope="per_turn"} 1.0' in page
    assert texts(slack, GENERAL, dear.ts) == [said_by_us.TURN_BUDGET, "one call"]


async def test_a_spent_day_is_told_at_once_and_nothing_more_is_asked(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    async with new_daemon(budgets={"daily": TINY}) as daemon:
        first = slack.mention(BEA, GENERAL, "[[say:the last one]]")
        assert (await slack.wait_for_answer(first)).text == "the last one"
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
        assert texts(slack, GENERAL, first.ts) == ["the last one", said_by_us.DAILY_BUDGET]

        raised = daemon.config.read_text().replace(f"daily = {TINY}", "daily = 100.0")
        daemon.config.write_text(raised)
        os.kill(daemon.pid, signal.SIGHUP)
        for said in (waiting[1], third):
            told = await slack.wait_for_posts(said.channel, said.ts, count=2)
            assert told[1].text.startswith("tomorrow"), "nobody has to wait for midnight then"


def queued(page: str) -> int | None:
    """How many turns wait, as the health page says: it looks every two seconds."""
    numbers = json.loads(page)["components"]["ledger"]["numbers"]
    return int(numbers["queued"]) if "queued" in numbers else None
