"""Slack goes wrong around a running daemon: it says so, and nothing is lost or answered twice."""

from __future__ import annotations

import asyncio
import json
import re
import time
from functools import partial

import pytest

from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import eventually, texts

pytestmark = pytest.mark.e2e

BEA, CHIDI = "U0002", "U0003"
GENERAL = "C0001"
SEEN_SECONDS = 15.0  # SURFACE, /readyz: after the fault at the latest


async def test_a_slack_that_is_down_at_the_start_and_a_silent_one_later_are_seen_and_outlived(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    slack.fail("*", "status", times=None, status=503)
    daemon = await new_daemon().start(ready=False)
    page = await daemon.until("/readyz", lambda _, text: "503" in text)
    assert "connector:slack" in json.loads(page)["waiting_for"]
    assert (await daemon.get("/livez"))[0] == 200
    slack.heal()
    await daemon.until_ready()

    began = time.monotonic()
    slack.black_hole()
    said = slack.mention(BEA, GENERAL, "[[say:heard after all]]")
    page = await daemon.until("/readyz", lambda status, _: status == 503, SEEN_SECONDS)
    assert time.monotonic() - began < SEEN_SECONDS
    assert list(json.loads(page)["waiting_for"]) == ["connector:slack"]
    slack.heal()
    await daemon.until_ready()
    assert (await slack.wait_for_answer(said, within=60)).text == "heard after all"
    assert daemon.logged("service.failed") == []


async def test_in_a_storm_of_faults_each_message_is_answered_once(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    slack.delivering.ack_timeout = 1.0
    async with new_daemon() as daemon:
        places = ((BEA, GENERAL), (CHIDI, "C0002"), (BEA, "C0003"))
        roots = {}
        for user, channel in places:
            slack.duplicate_next(2)
            roots[channel] = slack.mention(user, channel, "part 0 [[echo]]")
        for number in range(1, 5):
            match number:
                case 1:
                    slack.emit({"type": "message", "channel": ["C0001"], "user": {}, "ts": 17})
                    await slack.send_frame("no frame at all")
                    slack.drop_acks(2)
                    slack.lose_answer("chat.postMessage", times=2)
                case 2:
                    slack.dead_tickets(1)
                    await slack.lose_sockets("abort")
                case 3:
                    slack.rate_limit("chat.postMessage", 1)
                    slack.fail("users.info", "status", status=500)
                case _:
                    slack.lose_sockets_after_delivery(1)
                    slack.fail("chat.postMessage", "cut")
            for user, channel in places:
                slack.say(user, channel, f"part {number} [[echo]]", roots[channel].ts)
            await asyncio.sleep(0.5)  # let faults meet turns in different states
        for channel, root in roots.items():
            await eventually(partial(whole, slack, channel, root.ts), channel, 90)
        for channel, root in roots.items():
            assert parts(slack, channel, root.ts)[0] == "part 0"
            assert sorted(parts(slack, channel, root.ts)) == PARTS
        status, listed, _ = await daemon.run("dead", "list", "--json")
        assert status == 0
        (letter,) = json.loads(listed)["dead"]
        assert "malformed" in letter["reason"], "what could not be read is kept, and nothing else"
        assert (await daemon.get("/livez"))[0] == 200


PARTS = [f"part {number}" for number in range(5)]


def parts(slack: StandInSlack, channel: str, root: str) -> list[str]:
    """What of the messages a thread's answers repeat. An event that Slack had to bring again may
    come after later ones: the order is that of their registration.
    """
    return re.findall(r"part \d", "\n".join(texts(slack, channel, root)))


def whole(slack: StandInSlack, channel: str, root: str) -> bool:
    return set(parts(slack, channel, root)) == set(PARTS)


async def test_what_was_written_while_the_daemon_was_down_is_answered_once_and_says_how_late(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    async with new_daemon() as daemon:
        root = slack.mention(BEA, GENERAL, "[[say:here]]")
        await slack.wait_for_answer(root)
        await eventually(lambda: daemon.logged("backfill.finished"), "nothing is owed")
    # Slack gives up on these: no event ever brings them.
    slack.delivering.hold_unconnected, slack.delivering.retry_delays = False, ()
    for file in daemon.data.glob("*/proven.json"):
        facts = json.loads(file.read_text())
        hours = {name: facts[name] - 3 * 3600 for name in ("first_at", "proven_at")}
        file.write_text(json.dumps(facts | hours))
    slack.mention(CHIDI, "C0003", "before that [[say:too early]]", ago=4 * 3600)
    early = slack.mention(CHIDI, "C0003", "[[say:at last]]", ago=3 * 3600)
    direct = slack.dm(BEA, "[[say:in private]]", ago=1500)
    first = slack.say(CHIDI, GENERAL, "[[say:the first]]", root.ts)
    second = slack.say(BEA, GENERAL, "[[say:the second]]", root.ts)
    async with daemon:
        late = "I only saw your message {} after you wrote it.\n\n"
        assert (await slack.wait_for_answer(early)).text == late.format("3 hours") + "at last"
        private = (await slack.wait_for_answer(direct)).text
        assert private == late.format("25 minutes") + "in private"
        await slack.wait_for_answer(second)
        await eventually(lambda: len(daemon.logged("backfill.finished")) == 2, "all is read")
        for entry in slack.journal.of("event"):  # and at last Slack brings each of them after all
            if entry["event_id"] in {*early.events, *direct.events, *first.events, *second.events}:
                await slack.wait_for_ack(slack.deliveries.publish(entry["payload"]))
        marker = slack.mention(BEA, GENERAL, "[[say:the end]]")
        await slack.wait_for_answer(marker)
        status, story, _ = await daemon.run("trace", first.ts)
        assert status == 0
    assert "registered it" in story
    answers = texts(slack, GENERAL, root.ts)
    assert " ".join(answers).index("the first") < " ".join(answers).index("the second")
    assert [post.text for post in slack.posts("C0003")] == [late.format("3 hours") + "at last"]
    assert len(texts(slack, direct.channel, direct.ts)) == 1
    assert len(slack.posts()) <= 6, "nothing is answered twice"
