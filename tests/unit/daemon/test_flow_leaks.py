"""What turns leave behind in the daemon itself: nothing, however they end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from daemon.agents.scripted import Die, Say, Step, Use, Work
from daemon.model import ConversationId, Prompt, Sender, Stop, Trust
from tests.flow import Flow

CONVERSATIONS = 12
WARM, TURNS = 40, 200
SLACK = 3  # descriptors and tasks that happen to be open at one look and not at the other


def play(prompt: Prompt) -> Sequence[Step]:
    """Answers, tools and deaths, by what is asked."""
    asked = prompt.text.splitlines()[-1]
    if "die" in asked:
        return [Work("Bash"), Die()]  # three times, until it is a dead letter
    if "label" in asked:
        return [Use("label", {"name": "spam"}), Say("done")]
    return [Say("well")]


async def some_turns(flow: Flow, first: int, count: int) -> None:
    kinds = ("hello", "label it", "hello", "die", "hello")
    for number in range(first, first + count):
        thread = f"t{number % CONVERSATIONS}"
        await flow.say(f"{kinds[number % len(kinds)]} {number}", thread)
        if number % 10 == 9:
            sender = Sender("test:ada", "Ada", Trust.MEMBER)
            stop = Stop("chat", f"stop-{number}", ConversationId(thread), sender)
            await flow.intake.accept(stop)
        if number % 5 == 4:
            await rest(flow)


async def rest(flow: Flow) -> None:
    """Until all that was asked has its end, and is delivered."""
    async with asyncio.timeout(60):
        while True:
            counts = await flow.ledger.counts()
            on_the_way = sum(counts.outbox[state] for state in ("staged", "pending", "sending"))
            if counts.waiting + counts.running + counts.queued + on_the_way == 0:
                return
            await asyncio.sleep(0.005)


def held() -> tuple[int, int]:
    """Open file descriptors, and tasks."""
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208


async def test_two_hundred_turns_leave_no_descriptor_and_no_task_behind(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=3, spares=1) as flow:
        flow.agents.script = play
        await some_turns(flow, 0, WARM)
        descriptors, tasks = held()
        await some_turns(flow, WARM, TURNS)
        after_descriptors, after_tasks = held()
        assert after_descriptors <= descriptors + SLACK
        assert after_tasks <= tasks + SLACK
        assert len(flow.agents.processes()) <= 3
        assert len(flow.gateway.live) <= 3, "the tokens of processes that are gone are revoked"
        assert len(flow.agents.prompts) >= TURNS
