"""Mailboxes in the whole flow: a real ledger, Dovecot and SMTP; only the agents are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from connectors.imap.config import ImapTable
from connectors.imap.connector import ImapConnector
from daemon.clock import SystemClock
from daemon.model import ConversationId, EffectId, EffectKind
from daemon.plugin import Surroundings
from daemon.ports import Ledger
from tests.dovecot import PASSWORD, Postbox
from tests.flow import Flow, RecordingConnector
from tests.integration.mail_stage import PACE, PATIENCE, close
from tests.mails import OPERATORS, secret, table
from tests.smtp_sink import SmtpSink


class LateLedger:
    """The port Outbox over a ledger that is opened after the connectors are built."""

    ledger: Ledger

    async def count_sent(
        self,
        connector: str,
        kind: EffectKind,
        since: float,
        *,
        conversation: ConversationId | None = None,
        sender: str | None = None,
    ) -> int:
        return await self.ledger.count_sent(
            connector, kind, since, conversation=conversation, sender=sender
        )

    async def sent_as(self, effect: EffectId) -> str | None:
        return await self.ledger.sent_as(effect)


def mailbox(postbox: Postbox, sink: SmtpSink, **keys: Any) -> ImapTable:
    imap = {"host": "127.0.0.1", "port": postbox.server.imap, "security": "plain"}
    imap |= {"user": postbox.address, "password": secret(PASSWORD)}
    smtp = {"host": "127.0.0.1", "port": sink.port, "security": "plain"}
    return table(imap=imap, smtp=smtp, **keys)


@asynccontextmanager
async def mail_flow(tmp_path: Path, **tables: ImapTable) -> AsyncIterator[Flow]:
    """A flow whose connectors are mailboxes, each proven alive."""
    outbox, told = LateLedger(), []

    async def tell(_key: str, text: str) -> None:
        told.append(text)

    around = Surroundings(SystemClock(), outbox, tmp_path, OPERATORS, tell)
    mailboxes = [ImapConnector(name, each, around, pace=PACE) for name, each in tables.items()]
    connectors = cast("tuple[RecordingConnector, ...]", tuple(mailboxes))
    async with Flow(tmp_path, connectors=connectors) as flow:
        outbox.ledger, flow.told = flow.ledger, told
        proven = [asyncio.Event() for _ in mailboxes]
        tasks = [
            asyncio.create_task(each.run(flow.intake, ready.set))
            for each, ready in zip(mailboxes, proven, strict=True)
        ]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(ready.wait() for ready in proven))
        try:
            yield flow
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in mailboxes:
                await close(each)


async def settled(flow: Flow, turns: int) -> None:
    """Until so many turns have ended and nothing waits or is under way."""

    async def rest() -> bool:
        counts = await flow.ledger.counts()
        busy = counts.waiting + counts.running + counts.queued
        busy += sum(counts.outbox[state] for state in ("pending", "sending", "staged"))
        return not busy and len(flow.agents.prompts) >= turns

    async with asyncio.timeout(PATIENCE):
        while not await rest():
            await asyncio.sleep(0.02)
