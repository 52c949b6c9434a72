"""Whether posts come back as events: seen when they do not, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.slack.echoes import AGAIN_SECONDS, DUE_SECONDS, LOOK_SECONDS, Echoes
from connectors.slack.inbound import Bot
from daemon.clock import ManualClock

BOT = Bot(team="T1", user="U0BOT", bot="B1", name="postroom")


class Stage:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.missed: list[float] = []
        self.echoes = Echoes(name="slack", clock=self.clock, missed=self.missed.append)

    def heard(self, ts: str, /, **event: Any) -> None:
        own = {"type": "message", "user": "U0BOT", "bot_id": "B1", "channel": "C1", "ts": ts}
        self.echoes.heard(own | event, BOT)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    task = asyncio.create_task(made.echoes.watch())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_posts_that_come_back_are_proof(stage: Stage) -> None:
    for number in range(5):
        stage.echoes.posted("C1", f"{number}.0")
        stage.heard(f"{number}.0")
        await stage.clock.advance(DUE_SECONDS)
    assert (stage.echoes.missing, stage.echoes.trouble, stage.missed) == (0, "", [])
    assert stage.echoes.age == DUE_SECONDS


async def test_an_echo_may_come_before_the_answer_to_its_post(stage: Stage) -> None:
    for number in range(2):
        stage.heard(f"{number}.0")
        stage.echoes.posted("C1", f"{number}.0")
    await stage.clock.advance(DUE_SECONDS)
    assert stage.echoes.missing == 0


async def test_posts_that_do_not_come_back_are_told_and_what_was_missed_is_read_back(
    stage: Stage,
) -> None:
    began = stage.clock.now()
    stage.echoes.posted("C1", "1.0")
    await stage.clock.advance(DUE_SECONDS)
    assert stage.echoes.trouble == "", "one alone may be an accident"
    stage.echoes.posted("C2", "2.0")
    await stage.clock.advance(DUE_SECONDS + LOOK_SECONDS)
    assert "the last 2 posts did not come back" in stage.echoes.trouble
    assert stage.missed == [began]
    await stage.clock.advance(AGAIN_SECONDS)
    assert len(stage.missed) == 2, "again and again, while none comes"
    assert stage.missed[1] > began, "but not from the beginning"
    stage.echoes.posted("C1", "3.0")
    stage.heard("3.0")
    assert (stage.echoes.missing, stage.echoes.trouble) == (0, "")
    await stage.clock.advance(2 * AGAIN_SECONDS)
    assert len(stage.missed) == 2


@pytest.mark.parametrize(
    "event",
    [
        {"user": "UBEA", "bot_id": None},
        {"type": "app_mention"},
        {"hidden": True, "subtype": "message_changed"},
        {"ts": "9.9"},
    ],
)
async def test_other_events_are_no_echo(stage: Stage, event: dict[str, Any]) -> None:
    for number in range(2):
        stage.echoes.posted("C1", f"{number}.0")
    stage.heard("0.0", **event)
    stage.echoes.heard(None, BOT)
    await stage.clock.advance(DUE_SECONDS)
    assert stage.echoes.missing == 2
