"""A live agent beside a client that says nothing: what counts as a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, cast

import pytest
from claude_agent_sdk import ClaudeSDKClient

from daemon.agents.live import ClaudeAgent
from daemon.errors import AgentDied
from daemon.model import ProcessRef, Prompt

QUIET_SECONDS = 0.01
NO_PROCESS = ProcessRef(2**22 + 1, 1)  # beyond the highest pid that Linux gives


class SilentClient:
    """The part of the SDK's client that an agent uses. What it is asked for its state it answers
    with an error, or with nothing at all.
    """

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.asked = 0
        self.often = asyncio.Event()

    async def query(self, prompt: AsyncIterable[dict[str, Any]]) -> None:
        async for _ in prompt:
            pass

    async def receive_messages(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def get_mcp_status(self) -> Any:
        self.asked += 1
        if self.error is None:
            await asyncio.Event().wait()
        if self.asked == 3:
            self.often.set()
        raise cast("Exception", self.error)

    async def disconnect(self) -> None:
        return None


async def lived(client: SilentClient) -> None:
    """A turn beside it, until it was asked for a sign of life three times. Raises AgentDied."""
    agent = ClaudeAgent(
        cast("ClaudeSDKClient", client),
        NO_PROCESS,
        lambda: None,
        quiet=QUIET_SECONDS,
        answer=0.2,
    )

    async def play() -> None:
        async for _ in agent.turn(Prompt("uuid-1", "hello")):
            pass

    playing, asked = asyncio.create_task(play()), asyncio.create_task(client.often.wait())
    try:
        async with asyncio.timeout(20):
            await asyncio.wait({playing, asked}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
    finally:
        for task in (playing, asked):
            task.cancel()
        await asyncio.gather(playing, asked, return_exceptions=True)
        await agent.close()


async def test_an_error_is_a_sign_of_life() -> None:
    await lived(SilentClient(RuntimeError("unknown request")))


async def test_no_answer_at_all_is_none() -> None:
    with pytest.raises(AgentDied, match="froze"):
        await lived(SilentClient(None))
