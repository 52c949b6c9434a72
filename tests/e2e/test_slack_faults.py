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
