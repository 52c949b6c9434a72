"""Mails as people write and read them: composing one, stamping it as an MX does, reading one."""

from __future__ import annotations

import email.utils
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

MX = "mx.example.test"
"""The authserv-id in what the stand-in says of a sender (RFC 8601)."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as it lies in a folder. `flags` are as IMAP writes them; `at` is when it arrived, in
    seconds since the epoch.
    """

    mailbox: str
    folder: str
    uid: int
    uidvalidity: int
    flags: frozenset[str]
    at: float
    raw: bytes

    @property
    def outside_id(self) -> str:
        """What a reader of the mailbox can call it by: folder, UIDVALIDITY and UID."""
        return f"{self.folder}:{self.uidvalidity}:{self.uid}"

    def header(self, name: str) -> str:
        return str(self._parsed()[name] or "")

    @property
    def message_id(self) -> str:
        return self.header("Message-ID").strip()

    @property
    def text(self) -> str:
        """Its plain text."""
        body = self._parsed().get_body(("plain",))
        return str(body.get_content()).strip() if body is not None else ""

    def _parsed(self) -> EmailMessage:
        parsed = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(parsed, EmailMessage)  # noqa: S101 - what this policy makes
        return parsed


def compose(
    writer: str,
    to: str,
    subject: str,
    text: str,
    *,
    answers: Letter | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A mail from `writer` ("Ann Buyer <ann@example.test>"). With `answers` it is a reply to that
    letter: same thread. `headers` are added, or take the place of those of their name.
    """
    mail = EmailMessage(policy=policy.SMTP)
    domain = address_of(writer).rpartition("@")[2]
    mail["From"], mail["To"], mail["Subject"] = writer, to, subject
    mail["Date"] = email.utils.formatdate()
    mail["Message-ID"] = f"<{uuid.uuid4().hex}@{domain}>"
    if answers is not None:
        mail["In-Reply-To"] = answers.message_id
        mail["References"] = f"{answers.header('References')} {answers.message_id}".strip()
    for name, value in (headers or {}).items():
        del mail[name]
        mail[name] = value
    mail.set_content(text)
    return mail.as_bytes()


def stamp(raw: bytes, mail_from: str, *, authenticated: bool) -> bytes:
    """The mail as it lies in the mailbox: what the receiving server found out stands before it
    (RFC 5321 4.4, RFC 8601). Unauthenticated: anybody may have written it.
    """
    domain = mail_from.rpartition("@")[2] or "unknown.invalid"
    word = "pass" if authenticated else "fail"
    before = (
        f"Return-Path: <{mail_from}>\r\n"
        f"Received: from {domain} by {MX} with ESMTP id {uuid.uuid4().hex[:12]};\r\n"
        f" {email.utils.formatdate(time.time())}\r\n"
        f"Authentication-Results: {MX};\r\n"
        f" spf={word} smtp.mailfrom={domain};\r\n"
        f" dkim={word} header.d={domain};\r\n"
        f" dmarc={word} header.from={domain}\r\n"
    )
    return before.encode() + raw


def address_of(written: str) -> str:
    """The bare address, in lower case, of "Name <address>"."""
    return email.utils.parseaddr(written)[1].lower()
