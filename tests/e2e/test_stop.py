"""A person ends the turn that runs: in the thread, or from a shell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import psutil
import pytest

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Entry, StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import agents_of, eventually, texts, turns_that_ended

pytestmark = pytest.mark.e2e

BEA, CHIDI = "U0002", "U0003"
GENERAL = "C0001"
AT_MOST_SECONDS = 10.0  # a second is the promise (measured: 0.12 s p50); machines may be loaded


def stopped(root: str) -> Callable[[Entry], bool]:
    """The post that says so, in a thread."""
    return lambda entry: (
        entry["kind"] == "post" and entry["text"] == "Stopped." and entry["thread_ts"] == root
    )


async def test_stop_in_the_thread_ends_the_turn_and_the_thread_goes_on(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    async with new_daemon() as daemon:
        gate = model.hold("a long story", where="stream")
        root = slack.mention(BEA, GENERAL, "a long story [[say:once upon a time]]")
        held = await gate.arrived()
        since = len(slack.journal.entries)
        said = slack.say(CHIDI, GENERAL, "Stop!", root.ts)
        ack = await slack.wait_for_ack(said)
        post = await slack.wait_for(stopped(root.ts), since=since)
        assert post["at"] - ack["at"] < AT_MOST_SECONDS
        await asyncio.wait_for(held.ended.wait(), 20)
        assert held.outcome == "cut by the client", "the model is asked no further"
        after = slack.say(BEA, GENERAL, "a short one then [[say:the end]]", root.ts)
        assert (await slack.wait_for_answer(after)).text == "the end"
    assert texts(slack, GENERAL, root.ts) == ["Stopped.", "the end"]
    assert turns_that_ended(daemon) == ["stopped", "done"]


async def test_stop_ends_a_tool_and_what_it_started(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    sleep = json.dumps({"command": "bash -c 'sleep 251 & sleep 252'"})
    async with new_daemon() as daemon:
        said = slack.dm(BEA, f"[[tool:Bash {sleep}]][[say:never]]")
        await eventually(lambda: len(sleepers(daemon)) == 2, "the tool at work")
        since = len(slack.journal.entries)
        ack = await slack.wait_for_ack(slack.dm(BEA, "stop"))
        post = await slack.wait_for(stopped(said.ts), since=since)
        assert post["at"] - ack["at"] < AT_MOST_SECONDS
        await eventually(lambda: not sleepers(daemon), "the tool gone")
    assert texts(slack, said.channel, said.ts) == ["Stopped."]


async def test_stop_from_a_shell_ends_one_conversation_and_no_other(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    async with new_daemon() as daemon:
        gate = model.hold("hold this", where="stream")
        one = slack.mention(BEA, GENERAL, "hold this one [[say:one]]")
        await gate.arrived()
        other = slack.mention(CHIDI, GENERAL, "hold this other [[say:other]]")
        await model.requests("hold this other")

        status, listed, _ = await daemon.run("conversations", "list", "--json")
        assert status == 0
        names = [row["id"] for row in json.loads(listed)["conversations"]]
        (name,) = [name for name in names if name.endswith(one.ts)]
        since = len(slack.journal.entries)
        status, _, error = await daemon.run("conversations", "stop", name)
        assert (status, error) == (0, "")
        await slack.wait_for(stopped(one.ts), since=since)

        status, _, error = await daemon.run("conversations", "stop", name)
        assert status == 1, "nothing runs there any more"
        assert error.count("\n") == 1
        gate.release()
        assert (await slack.wait_for_answer(other)).text == "other"
    assert texts(slack, GENERAL, one.ts) == ["Stopped."]


def sleepers(daemon: DaemonProcess) -> list[psutil.Process]:
    return agents_of(daemon, "sleep")
