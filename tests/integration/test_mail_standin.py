"""The mail connector on a second, quite different server: the stand-in that the demo ships."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.imap.connector import ImapConnector
from daemon.clock import SystemClock
from daemon.demo.mail import StandInMail
from daemon.model import Answer, Effect, EffectKind, Message, Sent, Sighting, Trust, TurnId
from daemon.plugin import Surroundings
from tests.fakes import CountingOutbox, RecordingIntake
from tests.integration.mail_stage import PACE, PATIENCE, Sending, close, pending, stopped
from tests.mails import secret, table

SUPPORT = "support@example.test"
ANN = "Ann Buyer <ann@example.test>"


class Desk:
    """A connector at work on the stand-in."""

    def __init__(self, server: StandInMail, tmp_path: Path, mode: str = "reply") -> None:
        password = secret(server.password)
        imap = {"host": "127.0.0.1", "port": server.imap_port, "security": "plain"}
        given = table(
            address=SUPPORT,
            aliases=[],
            mode=mode,
            allow=["*@example.test"],
            authserv_id=server.authserv_id,
            imap={**imap, "user": SUPPORT, "password": password},
            smtp={"host": "127.0.0.1", "port": server.smtp_port, "security": "plain"},
        )
        around = Surroundings(SystemClock(), CountingOutbox(), tmp_path, frozenset())
        self.server = server
        self.connector = ImapConnector("support", given, around, pace=PACE)
        self.intake = RecordingIntake()
        self.ready = asyncio.Event()
        self._task = asyncio.create_task(self.connector.run(self.intake, self.ready.set))

    async def heard(self, writer: str, *, authenticated: bool = True) -> Message:
        async with asyncio.timeout(PATIENCE):
            await self.ready.wait()
        await self.server.write(writer, SUPPORT, "Hours", "Open?", authenticated=authenticated)
        return await self.intake.message()

    async def answered(self, message: Message, text: str) -> list[Effect]:
        trust = message.sender.trust or Trust.PUBLIC
        answer = Answer(
            key="turn-1/answer",
            conversation=message.conversation,
            connector="support",
            trust=trust,
            messages=(message,),
            text=text,
            turn=TurnId("turn-1"),
        )
        return [pending(new) for new in await self.connector.compose(answer)]

    async def stop(self) -> None:
        await stopped(self._task)
        await close(self.connector)


@pytest.fixture
async def server() -> AsyncIterator[StandInMail]:
    async with StandInMail([SUPPORT]) as standing:
        yield standing


async def test_an_answer_comes_back_to_its_writer(server: StandInMail, tmp_path: Path) -> None:
    desk = Desk(server, tmp_path)
    message = await desk.heard(ANN)
    assert message.sender.trust is Trust.MEMBER
    (reply,) = await desk.answered(message, "On Sundays.")
    assert isinstance(await desk.connector.deliver(reply, Sending()), Sent)
    answer = await server.wait_for(
        "ann@example.test", lambda letter: "Hours" in letter.header("Subject")
    )
    assert answer.text.strip() == "On Sundays."
    copy = await server.wait_for(SUPPORT, lambda _letter: True, "Sent", within=PATIENCE)
    assert copy.message_id == answer.message_id
    await desk.stop()


async def test_a_strangers_mail_is_drafted_for(server: StandInMail, tmp_path: Path) -> None:
    desk = Desk(server, tmp_path)
    message = await desk.heard("eve@evil.org", authenticated=False)
    (draft,) = await desk.answered(message, "On Sundays.")
    assert draft.kind is EffectKind.DRAFT
    assert await desk.connector.find(draft) is Sighting.ABSENT
    receipt = await desk.connector.deliver(draft, Sending())
    assert await desk.connector.find(draft) == receipt
    (left,) = await server.letters(SUPPORT, "Drafts")
    assert left.header("To") == "eve@evil.org"
    await desk.stop()


async def test_a_mail_is_labelled(server: StandInMail, tmp_path: Path) -> None:
    desk = Desk(server, tmp_path, "triage")
    message = await desk.heard(ANN)
    (label,) = await desk.answered(message, '{"label": "question"}')
    assert await desk.connector.find(label) is Sighting.ABSENT
    assert isinstance(await desk.connector.deliver(label, Sending()), Sent)
    assert isinstance(await desk.connector.find(label), Sent)
    await desk.stop()
