"""The contract of the port Connector, over every connector. Add a rig to `RIGS` for a new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connectors._skeleton.config import SkeletonTable
from connectors._skeleton.connector import SkeletonConnector
from daemon.clock import SystemClock
from daemon.demo.slack import Delivering, StandInSlack
from daemon.errors import LedgerError
from daemon.model import (
    Answer,
    Effect,
    EffectKind,
    EffectState,
    Message,
    NewEffect,
    Rejected,
    Sent,
    Trust,
)
from daemon.plugin import Surroundings, load
from daemon.ports import Connector
from tests.dovecot import Postbox
from tests.fakes import CountingOutbox, RecordingIntake
from tests.integration.mail_stage import mail_stage
from tests.integration.slack_stage import on_stage
from tests.mails import raw


@dataclass
class Rig:
    """A connector and its outside. `write` makes a person write; `acknowledged` says whether the
    outside has been told that all was taken in; `visible` counts what the outside shows of us;
    `foreign` is a kind of effect that the connector does not have.
    """

    connector: Connector
    write: Callable[[str], None]
    acknowledged: Callable[[RecordingIntake], bool]
    visible: Callable[[], int]
    foreign: EffectKind = EffectKind.LABEL


# --- rigs ----------------------------------------------------------------------------------------


@asynccontextmanager
async def skeleton(tmp_path: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    table = SkeletonTable(kind="_skeleton", inbox=inbox, outbox=outbox, poll_seconds=0.01)
    around = Surroundings(SystemClock(), CountingOutbox(), tmp_path, frozenset())

    def write(text: str) -> None:
        draft = inbox / "holiday.1.part"
        draft.write_text(text, "utf-8")
        draft.rename(inbox / "holiday.1.txt")

    yield Rig(
        connector=SkeletonConnector("folder", table, around),
        write=write,
        acknowledged=lambda _intake: not list(inbox.glob("*.txt")),
        visible=lambda: len(list(outbox.glob("*.txt"))),
    )


@asynccontextmanager
async def slack(tmp_path: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    again_at_once = Delivering(ack_timeout=0.2, retry_delays=(0.0,) * 50, hold_unconnected=True)
    async with (
        StandInSlack(delivering=again_at_once) as server,
        on_stage(server, tmp_path, sockets=1) as stage,
    ):

        def acknowledged(_intake: RecordingIntake) -> bool:
            taken = {ack["event_id"] for ack in server.journal.of("ack") if ack["counted"]}
            told = {event["event_id"] for event in server.journal.of("event")}
            return bool(told) and told <= taken

        def write(text: str) -> None:
            server.dm("U0002", text)

        yield Rig(
            connector=stage.connector,
            write=write,
            acknowledged=acknowledged,
            visible=lambda: len(server.posts()),
        )


@asynccontextmanager
async def imap(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    postbox: Postbox = request.getfixturevalue("postbox")
    written = 0
    async with mail_stage(postbox, tmp_path, run=False) as stage:

        def write(text: str) -> None:
            nonlocal written
            written += 1
            postbox.deliver(raw(text=text, message_id=f"<{written}@example.com>"))

        def acknowledged(intake: RecordingIntake) -> bool:
            """A mailbox is told nothing: the cursor is what brings a mail again, or not."""
            cursor = intake.cursors.get((stage.connector.name, stage.table.folder))
            return cursor is not None and cursor.uid >= written > 0

        yield Rig(
            connector=stage.connector,
            write=write,
            acknowledged=acknowledged,
            visible=lambda: len(stage.sink.taken),
            foreign=EffectKind.POST,
        )


RIGS: Mapping[str, Callable[[Path, pytest.FixtureRequest], AbstractAsyncContextManager[Rig]]] = {
    "skeleton": skeleton,
    "slack": slack,
    "imap": imap,
}


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with RIGS[request.param](tmp_path, request) as made:
        yield made


# --- a run ---------------------------------------------------------------------------------------


class Running:
    """The connector's `run`, as its supervisor has it: started again after a failure."""

    def __init__(self, rig: Rig) -> None:
        self.intake = RecordingIntake()
        self.ready = asyncio.Event()
        self.readied = 0
        self._rig = rig
        self._task = asyncio.create_task(self._supervise())

    async def _supervise(self) -> None:
        while True:
            try:
                await self._rig.connector.run(self.intake, self._on_ready)
            except LedgerError:
                await asyncio.sleep(0.01)

    def _on_ready(self) -> None:
        self.readied += 1
        self.ready.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=10)
        assert self._task.done(), "run did not end when it was cancelled"


@pytest.fixture
async def running(rig: Rig) -> AsyncIterator[Running]:
    started = Running(rig)
    yield started
    await started.stop()


async def heard(rig: Rig, running: Running, text: str = "When is the office closed?") -> Message:
    async with asyncio.timeout(20):
        await running.ready.wait()
    rig.write(text)
    return await running.intake.message()


async def effects(rig: Rig, message: Message) -> tuple[NewEffect, ...]:
    answer = Answer(
        key="turn-1/answer",
        conversation=message.conversation,
        connector=rig.connector.name,
        trust=Trust.MEMBER,
        messages=(message,),
        text="On Sundays.",
    )
    return await rig.connector.compose(answer)


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


async def nothing() -> None:
    return None


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# --- the contract --------------------------------------------------------------------------------


async def test_cancelling_ends_a_run(rig: Rig) -> None:
    running = Running(rig)
    await heard(rig, running)
    await running.stop()


async def test_it_is_ready_once_a_run_and_not_before(rig: Rig) -> None:
    assert not rig.connector.health().ready
    running = Running(rig)
    await heard(rig, running)
    assert running.readied == 1
    assert rig.connector.health().ready
    await running.stop()


async def test_a_message_arrives_with_its_words(rig: Rig, running: Running) -> None:
    message = await heard(rig, running, "When is the office closed?")
    assert "When is the office closed?" in message.text.splitlines()
    assert message.connector == rig.connector.name
    assert message.addressed
    await eventually(lambda: rig.acknowledged(running.intake))


async def test_what_is_not_registered_is_not_acknowledged_and_comes_again(
    rig: Rig, running: Running
) -> None:
    async with asyncio.timeout(20):
        await running.ready.wait()
    running.intake.gate = gate = asyncio.Event()
    running.intake.failures = 1
    rig.write("When is the office closed?")
    await running.intake.until(lambda: running.intake.begun)
    assert not rig.acknowledged(running.intake)
    gate.set()
    await running.intake.until(lambda: running.intake.refused)
    message = await running.intake.message()
    assert message.outside_id == getattr(running.intake.refused[0], "outside_id", None)
    await eventually(lambda: rig.acknowledged(running.intake))
    assert len(running.intake.messages) == 1


async def test_an_answer_composed_twice_has_the_same_ids(rig: Rig, running: Running) -> None:
    message = await heard(rig, running)
    first, second = await effects(rig, message), await effects(rig, message)
    assert first == second
    assert len({effect.id for effect in first}) == len(first) > 0


async def test_what_was_delivered_is_found(rig: Rig, running: Running) -> None:
    (new,) = await effects(rig, await heard(rig, running))
    receipt = await rig.connector.deliver(pending(new), nothing)
    assert isinstance(receipt, Sent)
    assert await rig.connector.find(pending(new)) == receipt
    assert rig.visible() == 1


async def test_what_was_never_delivered_is_not_found(rig: Rig, running: Running) -> None:
    (new,) = await effects(rig, await heard(rig, running))
    assert not isinstance(await rig.connector.find(pending(new)), Sent)


async def test_nothing_is_visible_before_sending_is_committed(rig: Rig, running: Running) -> None:
    (new,) = await effects(rig, await heard(rig, running))

    async def broken() -> None:
        assert rig.visible() == 0
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError):
        await rig.connector.deliver(pending(new), broken)
    assert rig.visible() == 0


async def test_a_kind_of_effect_that_is_not_its_own_is_rejected(rig: Rig, running: Running) -> None:
    (new,) = await effects(rig, await heard(rig, running))

    async def sending() -> None:
        pytest.fail("nothing is sent")

    receipt = await rig.connector.deliver(replace(pending(new), kind=rig.foreign), sending)
    assert isinstance(receipt, Rejected)
    assert rig.visible() == 0


@pytest.mark.parametrize("kind", ["_skeleton", "slack", "imap"])
def test_a_plugin_is_found_by_its_kind(kind: str) -> None:
    assert load(kind).kind == kind
