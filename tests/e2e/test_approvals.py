"""A tool that has to be asked for, with the real CLI: in the thread, and from a shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon import texts
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Post, Said, StandInSlack
from tests.e2e import brisk
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import eventually
from tests.e2e.looking import texts as posted

pytestmark = pytest.mark.e2e

ADA, BEA = "U0001", "U0002"  # Ada is an operator
GENERAL = "C0001"
ASKED = texts.ASKS.format(tool="Bash")
TOUCH = json.dumps({"command": "echo x >> made.txt; wc -l < made.txt"})


@pytest.fixture
def asking(new_daemon: NewDaemon) -> DaemonProcess:
    return new_daemon(
        profiles__member={"tools": ["Read", "Bash"], "ask": ["Bash"]},
        trust={"operators": ["slack:T0001:U0001"]},
    )


async def question(slack: StandInSlack, said: Said) -> Post:
    """The post that asks, in its thread."""
    (post, *_) = await slack.wait_for_posts(GENERAL, said.ts, containing=ASKED)
    return post


def made(daemon: DaemonProcess) -> list[str]:
    """What the tool has left."""
    found = (daemon.data / "conversations").glob("*/work/made.txt")
    return [path.read_text() for path in found]


def asked_for(slack: StandInSlack, post: Post) -> str:
    """The id of the approval that a post is about."""
    (buttons,) = (
        block
        for block in slack.workspace.channels[GENERAL].messages[post.ts]["blocks"]
        if block["type"] == "actions"
    )
    return str(buttons["elements"][0]["value"])


async def pending(daemon: DaemonProcess) -> list[dict[str, Any]]:
    status, out, err = await daemon.run("approvals", "list", "--json")
    assert status == 0, err
    found: list[dict[str, Any]] = json.loads(out)["approvals"]
    return found


async def test_an_operator_s_word_lets_the_waiting_turn_go_on_at_once(
    asking: DaemonProcess, slack: StandInSlack
) -> None:
    async with asking as daemon:
        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {TOUCH}]]")
        post = await question(slack, said)
        slack.click(BEA, GENERAL, post.ts, "approve")
        told = await slack.wait_for(lambda entry: entry["kind"] == "ephemeral")
        assert (told["user"], told["text"]) == (BEA, texts.ONLY_OPERATORS)
        assert made(daemon) == [], "nothing is done before an operator has decided"
        slack.click(ADA, GENERAL, post.ts, "approve")
        answer = await slack.wait_for_posts(GENERAL, said.ts, count=2)
        assert answer[-1].text.strip() == "1"
        assert answer[0].text == texts.APPROVED.format(who="ada")
        with pytest.raises(LookupError):
            slack.click(ADA, GENERAL, post.ts, "deny")
        assert await pending(daemon) == []
        assert made(daemon) == ["x\n"]


async def test_a_denied_call_is_not_made_and_the_agent_goes_on_without_it(
    asking: DaemonProcess, slack: StandInSlack
) -> None:
    async with asking as daemon:
        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {TOUCH}]][[say:then without]]")
        id_ = asked_for(slack, await question(slack, said))
        status, out, _ = await daemon.run("approvals", "deny", id_)
        assert (status, out) == (0, f"{id_}: denied\n")
        posts = await slack.wait_for_posts(GENERAL, said.ts, count=2)
        assert [post.text for post in posts] == [
            texts.DENIED.format(who="an operator at the shell"),
            "then without",
        ]
        assert made(daemon) == []
        status, _, err = await daemon.run("approvals", "approve", id_)
        assert status == 1
        assert "decided already, by an operator at the shell" in err


async def test_a_word_that_comes_after_a_restart_resumes_the_thread(
    asking: DaemonProcess, slack: StandInSlack
) -> None:
    asking.command = (sys.executable, "-P", str(Path(brisk.__file__)), "run")
    async with asking as daemon:
        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {TOUCH}]][[say:I have asked]]")
        post = await question(slack, said)
        await slack.wait_for_posts(GENERAL, said.ts, containing="I have asked")
        assert texts.WAITS in posted(slack, GENERAL, said.ts)
        await eventually(lambda: daemon.logged("turn.finished"), "the turn is over")
        (waiting,) = await pending(daemon)
        assert waiting["id"] == asked_for(slack, post)
        assert json.loads(waiting["input"]) == json.loads(TOUCH)
        await daemon.kill()
        await daemon.start()
        await daemon.until("/healthz", lambda _, page: '"approvals_pending": 1' in page)
        await daemon.until("/metrics", lambda _, page: "postroom_approvals_pending 1.0" in page)
        assert [row["id"] for row in await pending(daemon)] == [waiting["id"]]
        slack.click(ADA, GENERAL, post.ts, "approve")
        await eventually(lambda: made(daemon), "the call is made, a turn later")
        answered = await slack.wait_for_posts(GENERAL, said.ts, count=4)
        assert answered[-1].text.strip() == "1", "it ran once, and the thread hears of it"
        status, story, _ = await daemon.run("trace", waiting["id"])
        assert status == 0
        for part in (f"approval {waiting['id']}: Bash used", "person  approved Bash"):
            assert part in story
    assert made(asking) == ["x\n"]
