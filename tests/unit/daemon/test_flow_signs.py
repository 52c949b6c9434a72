"""What a person in the conversation sees and may say around a turn: signs of work, and stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon import texts
from daemon.agents.scripted import Say, Wait
from daemon.model import ConversationId
from tests.flow import Flow


async def test_stop_is_heard_while_another_process_makes_way(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=1) as flow:
        flow.agents.script = lambda _: [Say("well")]
        await flow.say("hello", "t1")
        await flow.answers(1)
        closing, go = asyncio.Event(), asyncio.Event()

        async def slowly() -> None:
            closing.set()
            await go.wait()

        flow.agents.on_close = slowly
        await flow.say("never mind", "t2")
        await closing.wait()
        await flow.until(lambda: flow.pool.stop_turn(ConversationId("t2")))
        go.set()
        assert (await flow.answers(2))[1] == ("t2", texts.STOPPED)
        assert len(flow.agents.prompts) == 1, "the model was not asked"
        assert len(flow.agents.starts) == 1, "and no process was started"
        await flow.say("now then", "t2")
        assert (await flow.answers(3))[2] == ("t2", "well")


async def test_each_turn_shows_a_sign_also_one_that_waited(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        first, second = asyncio.Event(), asyncio.Event()
        waits = iter((first, second))
        flow.agents.script = lambda _: [Wait(next(waits)), Say("well")]
        await flow.say("hello")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.say("and then?")
        first.set()
        await flow.until(lambda: len(flow.agents.prompts) == 2)
        await flow.until(lambda: "" in flow.chat.activity)
        taken_away = flow.chat.activity.index("")
        await flow.until(lambda: texts.WORKING in flow.chat.activity[taken_away:])
        second.set()
        await flow.answers(2)
        await flow.until(lambda: flow.chat.activity[-1] == "")
