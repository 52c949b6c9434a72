"""The mail connector between a real Dovecot and a real SMTP sink."""

from __future__ import annotations

import asyncio
import email
import email.policy
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from connectors.imap.config import ImapTable
from connectors.imap.connector import ImapConnector, Pace
from connectors.imap.proof import Timing
from connectors.imap.smtp import SmtpTiming
from daemon.clock import SystemClock
from daemon.errors import Unavailable
from daemon.model import (
    Answer,
    Effect,
    EffectId,
    EffectKind,
    EffectState,
    JsonObject,
    Message,
    NewEffect,
    TurnId,
)
from daemon.plugin import Surroundings
from tests import mails
from tests.dovecot import PASSWORD, Postbox
from tests.fakes import CountingOutbox, RecordingIntake
from tests.smtp_sink import SmtpSink

NAME = "support"
PATIENCE = 60.0
PACE = Pace(
    mailbox=Timing(idle=5.0, poll=0.5, first_pause=0.05, last_pause=0.2),
    smtp=SmtpTiming(connect=10.0, command=10.0, data=10.0, keep=5.0, rest=0.1),
    copy_after=0.2,
    copy_again=0.2,
    look_apart=0.2,
)
_numbers = itertools.count(1)


@dataclass
class Told:
    """Whoever listens to `daemon.notify`."""

    texts: dict[str, str] = field(default_factory=dict)

    async def tell(self, key: str, text: str) -> None:
        self.texts[key] = text


@dataclass
class MailStage:
    """A connector at work. `run` is started again after an outage, as its supervisor does."""

    connector: ImapConnector
    postbox: Postbox
    sink: SmtpSink
    intake: RecordingIntake
    outbox: CountingOutbox
    told: Told
    table: ImapTable
    data_dir: Path
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def restarted(self) -> ImapConnector:
        """The connector of another life of the daemon, over the same data directory."""
        around = Surroundings(
            SystemClock(), self.outbox, self.data_dir, mails.OPERATORS, self.told.tell
        )
        return ImapConnector(NAME, self.table, around, pace=PACE)

    async def run(self) -> None:
        while True:
            try:
                await self.connector.run(self.intake, self.ready.set)
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after, 0.5))

    async def until_ready(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.ready.wait()

    async def heard(self, raw: bytes) -> Message:
        """Deliver a mail, and what the connector makes of it."""
        await self.until_ready()
        known = len(self.intake.messages)
        await self.postbox.delivered(raw)
        return await self.intake.message(known + 1)

    async def answered(self, *messages: Message, text: str = "On Sundays.") -> list[Effect]:
        """The effects of an answer, as the outbox has them."""
        return [pending(new) for new in await self.composed(*messages, text=text)]

    async def composed(self, *messages: Message, text: str = "On Sundays.") -> list[NewEffect]:
        last = messages[-1]
        assert last.sender.trust is not None
        number = next(_numbers)
        answer = Answer(
            key=f"turn-{number}/answer",
            conversation=last.conversation,
            connector=NAME,
            trust=last.sender.trust,
            messages=messages,
            text=text,
            turn=TurnId(f"turn-{number}"),
        )
        return list(await self.connector.compose(answer))

    async def mails(self, folder: str) -> list[EmailMessage]:
        raws = await asyncio.to_thread(self.postbox.mails, folder)
        return [parsed(raw) for raw in raws]

    async def filed(self, folder: str, count: int = 1) -> list[EmailMessage]:
        """A folder's mails once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(found := await self.mails(folder)) < count:
                await asyncio.sleep(0.05)
        return found

    async def flags(self, folder: str = "INBOX") -> list[set[str]]:
        return await asyncio.to_thread(self._flags, folder)

    def _flags(self, folder: str) -> list[set[str]]:
        with self.postbox.reader() as reader:
            reader.select(folder, readonly=True)
            answer = reader.uid("FETCH", "1:*", "(FLAGS)")[1]
            lines = [line for line in answer if isinstance(line, bytes)]
            return [
                set(line.partition(b"FLAGS (")[2].partition(b")")[0].decode().split())
                for line in lines
            ]


def parsed(raw: bytes) -> EmailMessage:
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def pending(new: NewEffect) -> Effect:
    return effect(new.kind, new.target, new.body, id_=new.id)


def effect(
    kind: EffectKind, target: JsonObject, body: JsonObject, *, id_: str | None = None
) -> Effect:
    now = SystemClock().now()
    return Effect(
        id=EffectId(id_ or f"eff-{next(_numbers)}"),
        connector=NAME,
        conversation=mails_conversation(),
        kind=kind,
        target=target,
        body=body,
        state=EffectState.PENDING,
        created_at=now,
        started_at=now,
    )


def mails_conversation() -> Any:
    return "mail:support:INBOX:1:1"


@asynccontextmanager
async def mail_stage(
    postbox: Postbox, data_dir: Path, *, run: bool = True, **keys: Any
) -> AsyncIterator[MailStage]:
    async with SmtpSink() as sink:
        table = mails.table(
            **{
                "imap": {
                    "host": "127.0.0.1",
                    "port": postbox.server.imap,
                    "security": "plain",
                    "user": postbox.address,
                    "password": mails.secret(keys.pop("password", PASSWORD)),
                },
                "smtp": {"host": "127.0.0.1", "port": sink.port, "security": "plain"},
                **keys,
            }
        )
        outbox, told = CountingOutbox(), Told()
        around = Surroundings(SystemClock(), outbox, data_dir, mails.OPERATORS, told.tell)
        connector = ImapConnector(NAME, table, around, pace=PACE)
        stage = MailStage(
            connector, postbox, sink, RecordingIntake(), outbox, told, table, data_dir
        )
        tasks = [asyncio.create_task(stage.run())] if run else []
        try:
            yield stage
        finally:
            await stopped(*tasks)
            await close(stage.connector)


async def close(connector: ImapConnector) -> None:
    if connector._smtp is not None:
        await connector._smtp.close()


async def stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if ended is not None and not isinstance(ended, asyncio.CancelledError):
            raise ended


class Sending:
    """Where `sending` is committed; counts, and may see what is outside at that moment."""

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self.committed = 0
        self.seen: object = None
        self._look = look

    async def __call__(self) -> None:
        self.committed += 1
        self.seen = self._look()
