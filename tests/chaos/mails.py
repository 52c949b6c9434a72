"""The mail around a run: a Dovecot with the daemon's mailbox, a server that takes its answers.

Both outlive every daemon. What the server took is written to `mails.jsonl`, once each.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.dovecot import BINARY, LMTP, PASSWORD, Dovecot, Postbox

ADDRESS = "support@example.com"
AUTHSERV_ID = "mx.example.com"

LABEL = re.compile(r"Triage/([a-z0-9-]+)")  # docs/mail-answers.md
Hold = Literal["", "refused", "taken"]


class Sink:
    """The receiving server. With `hold` set, the next mail is taken, or is not, and the server's
    word on it never comes: the state in which SMTP cannot tell whether a mail has arrived.
    """

    def __init__(self, journal: Path) -> None:
        self.hold: Hold = ""
        self.held = asyncio.Event()
        self.mails: list[str] = []
        self._journal = journal
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on loopback; the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="mx.example.com", loop=loop), "127.0.0.1", 0
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def handle_DATA(  # noqa: N802 - aiosmtpd finds it by its name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        hold, self.hold = self.hold, ""
        if hold != "refused":
            self._take(envelope)
        if hold:
            self.held.set()
            await asyncio.Event().wait()  # cancelled when the connection is gone
        return "250 OK"

    def _take(self, envelope: Envelope) -> None:
        raw = envelope.original_content or b""
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        text = mail.get_content()
        line = {
            "n": len(self.mails) + 1,
            "at": time.time(),
            "to": envelope.rcpt_tos,
            "message_id": str(mail["Message-ID"]),
            "references": str(mail["References"] or mail["In-Reply-To"] or "").split(),
            "text": text,
        }
        self.mails.append(text)
        with self._journal.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Mails:
    """Both ends, as the stage uses them."""

    def __init__(self, dovecot: Dovecot, sink: Sink, smtp_port: int) -> None:
        self.sink = sink
        self.dovecot = dovecot
        self.box = Postbox(dovecot, ADDRESS)
        self.delivered = asyncio.Event()
        self._smtp_port = smtp_port

    def table(self) -> dict[str, Any]:
        """The connector's configuration; the password is in IMAP_PASSWORD."""
        return {
            "kind": "imap",
            "address": ADDRESS,
            "imap": {
                "host": "localhost",
                "port": self.dovecot.imaps,
                "security": "tls",
                "user": ADDRESS,
                "password": {"env": "IMAP_PASSWORD"},
            },
            "smtp": {"host": "127.0.0.1", "port": self._smtp_port, "security": "plain"},
            "mode": "reply",
            "allow": ["*@example.com"],
            "authserv_id": AUTHSERV_ID,
            "max_replies_per_thread_daily": 100_000,
            "max_replies_per_sender_daily": 100_000,
        }

    def environ(self) -> dict[str, str]:
        return {"IMAP_PASSWORD": PASSWORD, "SSL_CERT_FILE": str(self.dovecot.cafile)}

    def write_mailbox(self, file: Path) -> None:
        """One line a mail in the mailbox: its Message-ID, and the labels that it bears."""
        with self.box.reader() as reader, file.open("w") as lines:
            reader.select("INBOX", readonly=True)
            for uid in reader.uid("SEARCH", "ALL")[1][0].split():
                _, found = reader.uid("FETCH", uid, "(FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
                flags, header = found[0]
                line = {
                    "message_id": str(email.message_from_bytes(header)["Message-ID"]).strip(),
                    "labels": LABEL.findall(flags.decode()),
                }
                lines.write(json.dumps(line) + "\n")

    async def deliver(self, mail: EmailMessage) -> None:
        await self.box.delivered(mail, sender=str(mail["From"]))
        self.delivered.set()


def letter(
    *, sender: str, text: str, message_id: str, root: str | None, proven: bool = True
) -> EmailMessage:
    """A mail to the daemon's mailbox; `root` is the thread's first Message-ID (None: it is this).

    `proven`: our own mail server says that its author is who it names.
    """
    mail = EmailMessage()
    result = "pass" if proven else "fail"
    domain = sender.rpartition("@")[2]
    mail["Authentication-Results"] = f"{AUTHSERV_ID}; dmarc={result} header.from={domain}"
    mail["From"], mail["To"] = sender, ADDRESS
    mail["Subject"] = "About the parcel" if root is None else "Re: About the parcel"
    mail["Message-ID"] = message_id
    if root is not None:
        mail["In-Reply-To"] = mail["References"] = root
    mail.set_content(text + "\n")
    return mail


def available() -> bool:
    """Whether this machine has Dovecot."""
    return BINARY.exists() and LMTP.exists()


@asynccontextmanager
async def mail_on_stage(journal: Path) -> AsyncIterator[Mails]:
    dovecot, sink = Dovecot(), Sink(journal)
    try:
        await asyncio.to_thread(dovecot.start)
        yield Mails(dovecot, sink, await sink.start())
    finally:
        sink.stop()
        await asyncio.to_thread(dovecot.stop)
