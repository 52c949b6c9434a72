"""A stop that comes while a turn is claimed and its process is not there yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon import texts
from daemon.agents.scripted import Say
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
