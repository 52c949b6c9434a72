"""kill -9 in each state that a turn has, and what people see after the restart: one answer each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import agents_of, eventually, identities, texts, transcribed

pytestmark = pytest.mark.e2e

BEA, CHIDI = "U0002", "U0003"
GENERAL = "C0001"
GONE_SECONDS = 5.0  # nothing of the daemon before runs any more so long after the restart


@contextmanager
def ledger_locked(daemon: DaemonProcess) -> Iterator[None]:
    """Nobody can commit meanwhile: a turn's answer is there, and its end is not written."""
    connection = sqlite3.connect(daemon.data / "ledger.db", isolation_level=None)
    try:
        connection.execute("begin immediate")
        yield
    finally:
        connection.close()


class Story:
    """A daemon that is killed once, and what was asked of it before and after."""

    def __init__(self, daemon: DaemonProcess, slack: StandInSlack, model: StandInModel) -> None:
        self.daemon, self.slack, self.model = daemon, slack, model

    async def kill(self) -> None:
        """kill -9, then a restart; no process of before outlives that by five seconds."""
        before = identities(agents_of(self.daemon))
        await self.daemon.kill()
        await self.daemon.start(ready=False)
        await eventually(
            lambda: not before & identities(agents_of(self.daemon)),
            "the agents of the killed daemon gone",
            GONE_SECONDS,
        )
        await self.daemon.until_ready()

    async def goes_on(self, root: str, *before: str) -> None:
        """The thread is answered in order, and each message once."""
        await self.slack.wait_for_posts(GENERAL, root, count=len(before), within=60)
        self.slack.say(CHIDI, GENERAL, "go on [[say:gone on]]", root)
        await self.slack.wait_for_posts(GENERAL, root, containing="gone on", within=60)
        assert texts(self.slack, GENERAL, root) == [*before, "gone on"]


@pytest.fixture
async def story(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> AsyncIterator[Story]:
    async with new_daemon(pool={"spare_processes": 0}) as daemon:
        yield Story(daemon, slack, model)


async def test_killed_between_commit_and_acknowledgement(story: Story) -> None:
    gate = story.model.hold("heard")
    story.slack.drop_acks(2)  # Slack never hears that both events of the mention were taken in
    said = story.slack.mention(BEA, GENERAL, "heard [[say:once]]")
    await eventually(lambda: story.daemon.logged("turn.claimed"), "it is registered, and runs")
    await story.kill()
    gate.release()
    await story.slack.wait_for_ack(said, within=60)
    await story.goes_on(said.ts, "once")


async def test_killed_before_the_prompt_was_sent(story: Story) -> None:
    said = story.slack.mention(BEA, GENERAL, "[[say:here]]")
    await eventually(lambda: story.daemon.logged("turn.claimed"), "the turn is claimed")
    await story.kill()
    await story.goes_on(said.ts, "here")
    assert len(story.model.journal) <= 3  # one more where the prompt had just left


@pytest.mark.parametrize("where", ["headers", "stream"])
async def test_killed_while_the_model_answers(story: Story, where: str) -> None:
    gate = story.model.hold("now", where="headers" if where == "headers" else "stream")
    said = story.slack.mention(BEA, GENERAL, "now [[say:here I am]]")
    await gate.arrived()
    waiting = story.slack.say(CHIDI, GENERAL, "then [[say:and here]]", said.ts)
    await story.slack.wait_for_ack(waiting)
    await story.kill()
    gate.release()
    await story.goes_on(said.ts, "here I am", "and here")


async def test_killed_in_a_tool_and_after_it(story: Story) -> None:
    note = json.dumps({"command": "echo done >> notes.txt"})
    work = json.dumps({"command": "echo begun > begun.txt; sleep 250"})
    count = json.dumps({"command": "cat notes.txt"})
    after = story.model.hold("tidy up", tool_results=1)
    said = story.slack.mention(BEA, GENERAL, f"tidy up [[tool:Bash {note}]][[say:tidied]]")
    await after.arrived()
    await eventually(lambda: transcribed(story.daemon, '"tool_result"'), "the result transcribed")
    await story.kill()
    after.release()
    assert (await story.slack.wait_for_answer(said, within=60)).text == "tidied"
    seen = story.slack.say(BEA, GENERAL, f"[[tool:Bash {count}]]", said.ts)
    assert (await story.slack.wait_for_answer(seen)).text.strip() == "done", "once, not twice"

    long = story.slack.say(BEA, GENERAL, f"work [[tool:Bash {work}]][[say:worked]]", said.ts)
    begun = story.daemon.data / "conversations"
    await eventually(lambda: list(begun.glob("*/work/begun.txt")), "the tool at work")
    await story.kill()
    # The model calls it again, as it saw no result; it is not to sleep so long twice.
    again = await eventually(lambda: sleeping(story), "the tool at work again", 60)
    again()
    await story.slack.wait_for_answer(long, within=60)
    assert len(texts(story.slack, GENERAL, said.ts)) == 3


def sleeping(story: Story) -> Callable[[], None] | None:
    found = agents_of(story.daemon, "sleep")
    return found[0].kill if found else None


async def test_killed_after_the_answer_and_before_its_end_is_written(story: Story) -> None:
    gate = story.model.hold("now")
    said = story.slack.mention(BEA, GENERAL, "now [[say:harvested]]")
    await gate.arrived()
    with ledger_locked(story.daemon):
        gate.release()
        await eventually(
            lambda: transcribed(story.daemon, '"assistant"', '"harvested"'),
            "the answer transcribed",
        )
        await story.daemon.kill()
    assert story.slack.posts() == []
    await story.daemon.start()
    await story.slack.wait_for_answer(said, within=60)
    assert len(story.model.journal) == 1, "an answer that is there is not asked for again"
    await story.goes_on(said.ts, "harvested")


@pytest.mark.parametrize("arrived", [True, False])
async def test_killed_in_sending(story: Story, arrived: bool) -> None:
    story.slack.fail("chat.postMessage", "hang", performed=arrived)
    said = story.slack.mention(BEA, GENERAL, "[[say:posted]]")
    await story.slack.wait_for(
        lambda entry: entry["kind"] == "call" and entry["method"] == "chat.postMessage"
    )
    waiting = story.slack.say(CHIDI, GENERAL, "then [[say:next]]", said.ts)
    await story.slack.wait_for_ack(waiting)
    await story.kill()
    await story.goes_on(said.ts, "posted", "next")


async def test_killed_with_the_answer_in_the_outbox(story: Story) -> None:
    story.slack.rate_limit("chat.postMessage", 5)
    said = story.slack.mention(BEA, GENERAL, "[[say:kept]]")
    await eventually(lambda: story.daemon.logged("delivery.deferred"), "the post is put off")
    await story.kill()
    await story.goes_on(said.ts, "kept")
    assert len(story.model.journal) == 2
