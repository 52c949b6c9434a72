"""How the daemon ends: SIGTERM loses nothing, a second SIGINT does not wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from daemon.demo.model import StandInModel
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import agents_of, eventually, texts

pytestmark = pytest.mark.e2e

BEA = "U0002"
CHANNELS = ("C0001", "C0002")


async def test_sigterm_under_load_loses_nothing(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    """Turns that run end and are posted; what waits, and what comes meanwhile, is answered after
    the next start; nothing is answered twice.
    """
    async with new_daemon(daemon={"drain_seconds": 20}) as daemon:
        gate = model.hold("held", where="stream")
        said = [
            slack.mention(BEA, CHANNELS[n % 2], f"held {n} [[say:answer {n}]]") for n in range(6)
        ]
        for message in said:
            await slack.wait_for_ack(message)
        await model.requests("held", count=3)
        ending = asyncio.create_task(daemon.stop(signal.SIGTERM))
        await eventually(lambda: daemon.logged("daemon.draining"), "it drains")
        assert (await daemon.get("/readyz"))[0] == 503
        assert (await daemon.get("/livez"))[0] == 200
        late = slack.mention(BEA, CHANNELS[0], "late [[say:late answer]]")
        gate.release()
        assert await ending == 0
        assert len(slack.posts()) == 3, "what ran was answered, and no more was begun"
        assert agents_of(daemon) == []

        await daemon.start()
        for number, message in enumerate(said):
            await slack.wait_for_posts(message.channel, message.ts, within=60)
            assert texts(slack, message.channel, message.ts) == [f"answer {number}"]
        await slack.wait_for_answer(late, within=60)
    assert len(slack.posts()) == 7


async def test_a_turn_that_outlasts_the_drain_is_run_again_after_the_start(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    note = json.dumps({"command": "echo once >> notes.txt; cat notes.txt"})
    async with new_daemon(daemon={"drain_seconds": 1}) as daemon:
        gate = model.hold("slowly", tool_results=1)
        said = slack.mention(BEA, "C0001", f"slowly [[tool:Bash {note}]]")
        await gate.arrived()
        began = time.monotonic()
        assert await daemon.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 15
        assert agents_of(daemon) == []
        assert slack.posts() == []
        gate.release()
        await daemon.start()
        assert (await slack.wait_for_answer(said, within=60)).text.strip() == "once"
    assert len(slack.posts()) == 1


async def test_a_second_sigint_stops_at_once_and_still_nothing_is_lost(
    new_daemon: NewDaemon, slack: StandInSlack, model: StandInModel
) -> None:
    async with new_daemon(daemon={"drain_seconds": 600}) as daemon:
        gate = model.hold("hang")
        said = slack.mention(BEA, "C0001", "hang [[say:after all]]")
        await gate.arrived()
        ending = asyncio.create_task(daemon.stop(signal.SIGINT))
        await eventually(lambda: daemon.logged("daemon.draining"), "it drains")
        began = time.monotonic()
        assert await daemon.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 15, "it did not wait for the drain's ten minutes"
        await ending
        await eventually(lambda: not agents_of(daemon), "no agent is left", 5)
        gate.release()
        await daemon.start()
        assert (await slack.wait_for_answer(said, within=60)).text == "after all"
    assert len(slack.posts()) == 1


async def test_systemd_hears_of_the_start_of_progress_and_of_the_end(
    new_daemon: NewDaemon, slack: StandInSlack, tmp_path: Path
) -> None:
    """What deploy/postroom.service relies on: Type=notify, WatchdogSec."""
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, lambda: heard.append(listener.recv(200).decode()))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
        async with new_daemon(secrets=environ) as daemon:
            assert "READY=1" in heard, "not before the walls are proven, and then at once"
            beats = heard.count("WATCHDOG=1")
            await eventually(lambda: heard.count("WATCHDOG=1") > beats + 2, "it makes progress")
            os.kill(daemon.pid, signal.SIGSTOP)
            await asyncio.sleep(0.2)
            beats = heard.count("WATCHDOG=1")
            await asyncio.sleep(1.5)
            assert heard.count("WATCHDOG=1") == beats, "a daemon that stands still says nothing"
            os.kill(daemon.pid, signal.SIGCONT)
            said = slack.mention(BEA, CHANNELS[0], "[[say:awake]]")
            assert (await slack.wait_for_answer(said)).text == "awake"
        loop.remove_reader(listener)
    assert (heard.count("READY=1"), heard.count("STOPPING=1")) == (1, 1)
