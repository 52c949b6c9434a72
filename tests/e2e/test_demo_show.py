"""How the demo ends where its day does not go as it should, and with a model of one's own key."""

from __future__ import annotations

import socket
import tomllib

import pytest

from daemon.demo import day, desk
from daemon.demo.board import Where
from daemon.demo.model import StandInModel
from daemon.demo.people import BEA, SUPPORT
from daemon.demo.show import play
from daemon.demo.stage import Model
from daemon.errors import NotReachable

pytestmark = [pytest.mark.e2e, pytest.mark.cli]


async def test_a_message_that_ends_otherwise_is_named_with_the_end_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def disappointed(on: day.Scenery) -> None:
        asked = on.people.mention(BEA, SUPPORT, "when are you open?", wanted=Where.DRAFTED)
        await on.people.settled(asked)

    assert await play(once=True, live=False, port=0, scenes=(disappointed,)) == 1
    shown = capsys.readouterr().out
    assert "The day did not end as it should:\nmessage 1 (bea, #support: " in shown
    assert "should be drafted, and is delivered" in shown
    assert "Nothing lost" not in shown
    assert '"event": "delivery.sent"' in shown.partition("The end of the daemon's log:")[2]


async def test_an_answer_that_nobody_accounts_for_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def repeated(on: day.Scenery) -> None:
        asked = on.people.mention(BEA, SUPPORT, "when are you open?")
        await on.people.settled(asked)
        workspace = on.stage.slack.workspace
        (post,) = on.stage.slack.posts()
        messages = workspace.channels[SUPPORT].messages
        again = workspace.next_ts()
        messages[again] = messages[post.ts] | {"ts": again}

    assert await play(once=True, live=False, port=0, scenes=(repeated,)) == 1
    assert "outside there is an answer of no message: " in capsys.readouterr().out


async def test_a_day_that_is_stuck_ends_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    async def stuck(on: day.Scenery) -> None:
        on.people.hold("when are you open?")
        asked = on.people.mention(BEA, SUPPORT, "when are you open?")
        await on.people.settled(asked, within=3)

    assert await play(once=True, live=False, port=0, scenes=(stuck, day.stop)) == 1
    shown = capsys.readouterr().out
    assert "no end of message 1: not within 3 s" in shown
    assert "should be delivered, and is at work" in shown
    assert "somebody who says stop" not in shown


async def test_a_daemon_that_ends_by_itself_is_told_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def dying(on: day.Scenery) -> None:
        await on.stage.daemon.kill()
        await on.people.settled(on.people.mention(BEA, SUPPORT, "is anybody there?"))

    assert await play(once=True, live=False, port=0, scenes=(dying,)) == 1
    shown = capsys.readouterr().out
    assert "the daemon ended by itself" in shown
    assert "should be delivered, and is said" in shown


async def test_live_says_what_it_costs_at_most_and_the_gateway_is_told_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    budgets = {}

    async def look(on: day.Scenery) -> None:
        budgets.update(tomllib.loads(on.stage.daemon.config.read_text())["budgets"])

    key = "sk-ant-the-persons-own"
    async with StandInModel(desk.script, api_key=key) as model:
        model.pace = 0.25  # so that there is time to say stop
        real = Model(key, model.url)
        scenes = (look, day.stop)
        assert await play(once=True, live=True, port=0, scenes=scenes, real=real) == 0
    shown = capsys.readouterr().out
    assert "It costs at most $1.00 in all and $0.25 a turn" in shown
    assert "1 message: 1 stopped." in shown
    assert budgets == {"per_turn": 0.25, "daily": 1.0}


async def test_a_port_that_is_taken_is_refused_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NotReachable, match=f"--port {port}: .*give another, or leave it out"):
            await play(once=True, live=False, port=port)
