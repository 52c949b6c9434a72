"""A daemon with one mailbox: Dovecot behind it, an SMTP server that takes its answers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from tests.dovecot import PASSWORD, Postbox
from tests.e2e.conftest import MODEL_KEY
from tests.e2e.looking import eventually
from tests.integration.mail_stage import parsed
from tests.smtp_sink import SmtpSink

POSTROOM = (sys.executable, "-m", "daemon", "run")


class Office:
    """A daemon with one mailbox, and what stands around it."""

    def __init__(self, root: Path, model: StandInModel, postbox: Postbox, sink: SmtpSink) -> None:
        self.root, self.model, self.postbox, self.sink = root, model, postbox, sink

    def daemon(
        self,
        *,
        password: str = PASSWORD,
        smtp: dict[str, Any] | None = None,
        command: tuple[str, ...] = POSTROOM,
        **keys: Any,
    ) -> DaemonProcess:
        """`keys` are the mailbox's; `command` is what runs it."""
        imap = {"host": "localhost", "port": self.postbox.server.imaps, "security": "tls"}
        imap |= {"user": self.postbox.address, "password": {"env": "IMAP_PASSWORD"}}
        out = {"host": "127.0.0.1", "port": self.sink.port, "security": "plain", **(smtp or {})}
        support = {
            "kind": "imap",
            "address": "support@example.com",
            "imap": imap,
            "smtp": out,
            "mode": "reply",
            "allow": ["*@example.com"],
            "authserv_id": "mx.example.com",
            **keys,
        }
        tables: dict[str, Any] = {
            "agent": {"api_url": self.model.url, "model": "claude-sonnet-5"},
            "pool": {"max_processes": 2, "spare_processes": 1},
            "connectors.support": support,
        }
        secrets = {
            "ANTHROPIC_API_KEY": MODEL_KEY,
            "IMAP_PASSWORD": password,
            "SMTP_PASSWORD": "wrong-smtp-password",
            "SSL_CERT_FILE": str(self.postbox.server.cafile),
        }
        return DaemonProcess(self.root, tables, secrets, command=command)

    async def filed(self, folder: str, count: int = 1) -> list[Any]:
        found: list[bytes] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                await asyncio.sleep(0.1)
                found = await asyncio.to_thread(self.postbox.mails, folder)
        return [parsed(each) for each in found]

    def labelled(self, word: str) -> bool:
        """Whether the first mail bears a label."""
        with self.postbox.reader() as reader:
            reader.select("INBOX", readonly=True)
            return list(reader.uid("SEARCH", "KEYWORD", f"Triage/{word}")[1]) == [b"1"]

    async def taken(self, count: int = 1) -> list[Any]:
        await eventually(lambda: len(self.sink.taken) >= count, "a mail handed over", 60)
        return [parsed(each.raw) for each in self.sink.taken]
