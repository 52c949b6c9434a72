"""Mails for the tests of the mail connector: written as bytes, read by the real parser."""

from __future__ import annotations

from pathlib import Path

from connectors.imap.config import ImapTable
from connectors.imap.mail import Mail
from connectors.imap.parse import parse
from daemon.clock import Clock, SystemClock
from daemon.plugin import Surroundings
from daemon.ports import Outbox
from daemon.secret import Secret
from tests.fakes import CountingOutbox

SERVER = "mx.example.com"
ADDRESS = "support@example.com"
OPERATORS = frozenset({"mail:boss@example.com", "slack:T1:U1"})


def secret(text: str = "secret") -> Secret:
    given = Secret(env="PASSWORD")
    given.read({"PASSWORD": text})
    return given


def table(**keys: object) -> ImapTable:
    """The table of a mailbox that answers colleagues, unless a test says otherwise."""
    return ImapTable.model_validate(
        {
            "kind": "imap",
            "address": ADDRESS,
            "imap": {"host": "imap.example.com", "port": 993, "user": "u", "password": secret()},
            "smtp": {"host": "127.0.0.1", "port": 25, "security": "plain"},
            "mode": "reply",
            "allow": ["*@example.com"],
            "authserv_id": SERVER,
            "aliases": ["help@example.com"],
            **keys,
        }
    )


def proof(domain: str = "example.com", result: str = "pass", server: str = SERVER) -> str:
    return f"{server}; dmarc={result} (p=reject) header.from={domain}"


def raw(
    *fields: tuple[str, str],
    sender: str = "Bob <bob@example.com>",
    to: str = ADDRESS,
    subject: str = "Opening hours",
    message_id: str = "<one@example.com>",
    text: str = "When are you open?",
    proven: bool = True,
) -> bytes:
    """A mail's bytes. `fields` stand above all others; with `proven` our server vouches for it."""
    head = [*fields]
    if proven:
        head.insert(0, ("Authentication-Results", proof()))
    head += [("From", sender), ("To", to), ("Subject", subject), ("Message-ID", message_id)]
    lines = [f"{name}: {value}" for name, value in head if value]
    return "\r\n".join([*lines, "Content-Type: text/plain; charset=utf-8", "", text, ""]).encode()


def fetched(data: bytes, *, uid: int = 7, flags: frozenset[str] = frozenset()) -> Mail:
    return Mail(
        folder="INBOX",
        uidvalidity=1700,
        uid=uid,
        flags=flags,
        size=len(data),
        arrived=1_800_000_000.0,
        parsed=parse(data),
        raw_path="raw/support/ab/abc.eml",
        too_large=False,
    )


def around(
    tmp_path: Path, *, clock: Clock | None = None, outbox: Outbox | None = None
) -> Surroundings:
    return Surroundings(
        clock=clock or SystemClock(),
        outbox=outbox or CountingOutbox(),
        data_dir=tmp_path,
        operators=OPERATORS,
    )
