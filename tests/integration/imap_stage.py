"""A mailbox as its supervisor has it: run, and run again after each outage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from connectors.imap.config import ImapTable
from connectors.imap.mail import Mail
from connectors.imap.mailbox import Mailbox
from daemon.clock import SystemClock
from daemon.errors import Unavailable
from daemon.model import (
    ConversationId,
    Ignored,
    Message,
    Priority,
    Sender,
    Trust,
    Unreadable,
)
from daemon.ports import Intake
from tests.dovecot import PASSWORD, Postbox
from tests.fakes import RecordingIntake

log = structlog.get_logger()

NAME = "support"
PATIENCE = 90.0


def table_of(port: int, user: str, *, host: str = "localhost", **changes: Any) -> ImapTable:
    server: dict[str, Any] = {"security": "tls", "user": user, "password": {"env": "PASSWORD"}}
    server |= {"host": host, "port": port} | changes.pop("imap", {})
    password = changes.pop("password", PASSWORD)
    table = ImapTable.model_validate(
        {"kind": "imap", "address": "box@example.test", "imap": server, **changes}
    )
    table.imap.password.read({"PASSWORD": password})
    return table


async def read(mail: Mail, _intake: Intake) -> Message | Ignored | Unreadable:
    """The plainest reading: each mail a message of its own."""
    sender = next(iter(mail.parsed.addresses.get("from", [])), ["", "nobody@nowhere.test"])
    return Message(
        connector=NAME,
        outside_id=mail.outside_id,
        alternate_id=mail.alternate_id,
        conversation=ConversationId(f"mail:{mail.outside_id}"),
        sender=Sender(f"mail:{sender[1]}", sender[0], Trust.PUBLIC),
        text=mail.parsed.text,
        subject=next(iter(mail.parsed.headers.get("subject", [])), ""),
        sent_at=mail.arrived or 0.0,
        priority=Priority.MAIL,
        target={"uid": mail.uid, "flags": sorted(mail.flags), "too_large": mail.too_large},
        raw=mail.raw_path,
    )


@dataclass
class Stage:
    """`ready` is set at each proof; `outages` are why `run` ended, each with the wait it asked for
    (`longest_wait` cuts it short).
    """

    mailbox: Mailbox
    intake: RecordingIntake
    data_dir: Path
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    outages: list[Unavailable] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    longest_wait: float = 60.0

    async def until_ready(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.ready.wait()

    async def until_out(self, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.outages) < times:
                self.waiting.clear()
                await self.waiting.wait()

    async def registered(self, count: int) -> None:
        """Until so many items are registered, whatever they are."""
        async with asyncio.timeout(PATIENCE):
            while len(self.intake.items) < count:
                with contextlib.suppress(TimeoutError):
                    await self.intake.until(lambda: len(self.intake.items) >= count)

    async def subjects(self, count: int) -> list[str]:
        """The subjects of the first `count` messages, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.intake.messages) < count:
                with contextlib.suppress(TimeoutError):  # its own patience is for less than this
                    await self.intake.message(count)
        return [message.subject for message in self.intake.messages]

    async def run(self) -> None:
        while True:
            try:
                await self.mailbox.run(self.intake, self.ready.set)
            except Unavailable as error:
                self.ready.clear()
                log.info("stage.outage", reason=str(error), wait=error.retry_after)
                self.outages.append(error)
                self.waiting.set()
                await asyncio.sleep(min(error.retry_after, self.longest_wait))


def mailbox_of(table: ImapTable, data_dir: Path, **more: Any) -> Mailbox:
    options = {"read": read, **more}
    return Mailbox(name=NAME, table=table, clock=SystemClock(), data_dir=data_dir, **options)


@asynccontextmanager
async def on_stage(
    table: ImapTable,
    data_dir: Path,
    *,
    intake: RecordingIntake | None = None,
    longest_wait: float = 60.0,
    **more: Any,
) -> AsyncIterator[Stage]:
    """`more` goes to the mailbox."""
    mailbox = mailbox_of(table, data_dir, **more)
    stage = Stage(mailbox, intake or RecordingIntake(), data_dir, longest_wait=longest_wait)
    task = asyncio.create_task(stage.run())
    try:
        yield stage
    finally:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
        if ended is not None and not isinstance(ended, asyncio.CancelledError):
            raise ended


def at(postbox: Postbox, data_dir: Path, **more: Any) -> Any:  # the context manager of a Stage
    """On stage with a Dovecot's mailbox."""
    changes = {key: more.pop(key) for key in ("folder", "password") if key in more}
    table = table_of(postbox.server.imaps, postbox.address, **changes)
    return on_stage(table, data_dir, tls=postbox.server.tls(), **more)
