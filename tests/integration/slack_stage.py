"""A Slack connector on its stage: the shipped stand-in, and an intake that records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from connectors.slack.config import SlackTable
from connectors.slack.connection import Timing
from connectors.slack.connector import SlackConnector
from daemon.clock import SystemClock
from daemon.demo.slack import StandInSlack
from daemon.model import (
    Answer,
    Effect,
    EffectState,
    Message,
    NewEffect,
    Trust,
)
from daemon.plugin import Surroundings
from daemon.secret import Secret
from tests.fakes import CountingOutbox, RecordingIntake

# Short pauses; the rules are the same.
QUICK = Timing(
    ping=0.1,
    silence=1.5,
    hello=2.0,
    apart=0.0,
    linger=1.0,
    steady=0.2,
    first_wait=0.05,
    last_wait=0.2,
    crowded=0.3,
    disabled=0.3,
    rest=0.0,
    recount=0.5,
)


def secret(text: str) -> Secret:
    given = Secret(env="TOKEN")
    given.read({"TOKEN": text})
    return given


def table(slack: StandInSlack, **more: object) -> SlackTable:
    keys: dict[str, object] = {
        "kind": "slack",
        "app_token": secret(slack.app_token),
        "bot_token": secret(slack.bot_token),
        "api_url": slack.api_url,
    }
    return SlackTable.model_validate(keys | more)


@dataclass
class Stage:
    slack: StandInSlack
    intake: RecordingIntake
    connector: SlackConnector
    outbox: CountingOutbox
    readied: list[float] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def filled(self, runs: int = 1) -> None:
        """So many back-fills at least have ended, and no other is under way."""

        def done() -> bool:
            numbers = self.connector.health().numbers
            return int(numbers["back_fills"] or 0) >= runs and not numbers["back_filling"]

        await until(done)

    def ready(self) -> None:
        self.readied.append(asyncio.get_running_loop().time())

    async def start(self, sockets: int = 1) -> None:
        self.task = asyncio.create_task(self.connector.run(self.intake, self.ready))
        waiting = asyncio.create_task(self.slack.wait_connected(sockets))
        await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            waiting.cancel()
            self.task.result()
        await until(lambda: self.connector.health().ready)

    async def stop(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task

    async def effects(self, message: Message, text: str, key: str = "turn-1") -> list[Effect]:
        answer = Answer(
            key=key,
            conversation=message.conversation,
            connector=message.connector,
            trust=Trust.MEMBER,
            messages=(message,),
            text=text,
        )
        return [pending(new) for new in await self.connector.compose(answer)]


def pending(new: NewEffect) -> Effect:
    now = SystemClock().now()
    return Effect(
        id=new.id,
        connector=new.connector,
        conversation=new.conversation,
        kind=new.kind,
        target=new.target,
        body=new.body,
        state=EffectState.PENDING,
        created_at=now,
        started_at=now,
    )


async def until(condition: object, within: float = 20.0) -> None:
    """Look often until `condition()` is true: for states that nobody announces."""
    assert callable(condition)
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def on_stage(
    slack: StandInSlack,
    data_dir: Path,
    *,
    timing: Timing = QUICK,
    operators: frozenset[str] = frozenset(),
    **keys: object,
) -> AsyncIterator[Stage]:
    """A connector over the stand-in, not started yet; stopped at the end."""
    outbox = CountingOutbox()
    around = Surroundings(SystemClock(), outbox, data_dir, operators)
    connector = SlackConnector(
        "slack", table(slack, **keys), around, timing=timing, look_apart=0.05
    )
    stage = Stage(slack, RecordingIntake(), connector, outbox)
    try:
        yield stage
    finally:
        await stage.stop()


@contextlib.asynccontextmanager
async def at_work(slack: StandInSlack, data_dir: Path) -> AsyncIterator[Stage]:
    """A connector that has read all there is, so that only events tell it anything. Ada, U0001, is
    an operator.
    """
    operators = frozenset({"slack:T0001:U0001"})
    async with on_stage(slack, data_dir, operators=operators, sockets=1) as stage:
        await stage.start()
        await stage.filled()
        yield stage
