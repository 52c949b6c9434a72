"""`postroom doctor` for a mailbox: both halves, and with `--live` one mail to ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import uuid

from connectors.imap.checkup import diagnose_imap
from connectors.imap.client import ImapClient, Limits, Refused
from connectors.imap.config import ImapTable
from connectors.imap.connecting import connect
from connectors.imap.outbound import Envelope
from connectors.imap.parse import Parsed, parse
from connectors.imap.rules import X_LOOP
from connectors.imap.smtp import Smtp, SmtpTiming
from connectors.imap.trust import proven_domain
from daemon.clock import Clock
from daemon.errors import PostroomError
from daemon.model import Finding, HealthState, Sent

OK, WARN, FAIL = HealthState.PASS, HealthState.WARN, HealthState.FAIL
LIVE_SECONDS = 30.0  # for a mail to oneself to arrive
LOOK_EVERY_SECONDS = 1.0
_FORGED = "forged.invalid"  # RFC 2606: nobody's domain

_SMTP_MEND = "check host, port, security, user and password in the connector's smtp"
_AUTHSERV_MEND = "set it to the name at the start of your server's Authentication-Results"


async def diagnose(name: str, table: ImapTable, clock: Clock, *, live: bool) -> tuple[Finding, ...]:
    """All findings; with `live` a mail is sent. Never raises."""
    imap, smtp = await asyncio.gather(diagnose_imap(name, table), diagnose_smtp(name, table, clock))
    findings = [*imap, smtp, diagnose_trust(name, table)]
    if live and not any(found.state is FAIL for found in findings):
        findings += await diagnose_live(name, table, clock)
    return tuple(findings)


async def diagnose_smtp(name: str, table: ImapTable, clock: Clock) -> Finding:
    """Connect, log in, and name our address as the sender; nothing is sent."""
    part = f"{name}.smtp"
    if table.smtp is None:
        return Finding(part, WARN, "none: no notice can be mailed", "add smtp to the table")
    smtp = Smtp(table.smtp, table.domain, clock, SmtpTiming())
    try:
        trouble = await smtp.check(table.address)
    finally:
        await smtp.close()
    where = f"{table.smtp.host}:{table.smtp.port}"
    if trouble:
        return Finding(part, FAIL, f"{where}: {trouble}", _SMTP_MEND)
    return Finding(part, OK, f"{where} takes mail from {table.address}")


def diagnose_trust(name: str, table: ImapTable) -> Finding:
    part = f"{name}.authserv_id"
    if table.authserv_id is None:
        return Finding(part, WARN, "none: no sender is trusted", _AUTHSERV_MEND)
    return Finding(part, OK, table.authserv_id)


async def diagnose_live(name: str, table: ImapTable, clock: Clock) -> tuple[Finding, ...]:
    """Send one mail to ourselves, with forged results, and see how it arrives."""
    part = f"{name}.live"
    if table.smtp is None:
        return ()
    token = uuid.uuid4().hex
    smtp = Smtp(table.smtp, table.domain, clock, SmtpTiming())
    try:
        receipt = await smtp.send(_trial(table, token), _nothing)
    finally:
        await smtp.close()
    if not isinstance(receipt, Sent):
        return (Finding(part, FAIL, f"a mail to ourselves: {receipt.reason}", _SMTP_MEND),)
    try:
        found = await _arrival(table, token)
    except PostroomError as error:
        return (Finding(part, FAIL, f"a mail to ourselves was not seen: {error}", _SMTP_MEND),)
    if found is None:
        detail = f"a mail to ourselves did not arrive within {LIVE_SECONDS:g} s"
        return (Finding(part, WARN, detail, f"look for {token} in the mailbox, and in junk"),)
    return tuple(judge_arrival(part, table, found, receipt.ref))


def judge_arrival(part: str, table: ImapTable, found: Parsed, message_id: str) -> list[Finding]:
    """What the way of a mail to ourselves has changed."""
    findings = []
    if found.message_id == message_id:
        findings.append(Finding(part, OK, "a mail to ourselves arrived as it was sent"))
    else:
        detail = "the server replaces the Message-ID: a cut-off sending cannot be looked up in Sent"
        findings.append(Finding(part, WARN, detail, "send through another server"))
    fields = found.headers.get("authentication-results", ())
    if proven_domain(fields, table.authserv_id) == _FORGED:
        detail = f"forged Authentication-Results of {table.authserv_id} come through"
        mend = "make the mail server strip them from incoming mail: until then anybody is trusted"
        findings.append(Finding(f"{part}.forged", FAIL, detail, mend))
    return findings


def _trial(table: ImapTable, token: str) -> Envelope:
    message_id = f"<doctor-{token}@{table.domain}>"
    server = table.authserv_id or _FORGED
    lines = [
        f"Authentication-Results: {server}; dmarc=pass header.from={_FORGED}",
        f"From: {table.address}",
        f"To: {table.address}",
        f"Subject: postroom doctor {token}",
        f"Message-ID: {message_id}",
        "Auto-Submitted: auto-generated",
        f"X-Loop: {X_LOOP} {table.address}",
        "",
        "postroom doctor --live has sent this. It can be deleted.",
        "",
    ]
    raw = "\r\n".join(lines).encode()
    return Envelope(table.address, (table.address,), message_id, raw)


async def _arrival(table: ImapTable, token: str) -> Parsed | None:
    """The headers as they arrived. Raises Unavailable, AuthenticationFailed."""
    tls = await asyncio.to_thread(ssl.create_default_context)
    client = await connect(table.imap, tls, Limits())
    until = time.monotonic() + LIVE_SECONDS
    try:
        await client.select(table.folder, read_only=True)
        while (found := await _look(client, token)) is None and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await client.noop()
        return found
    finally:
        await client.close()


async def _look(client: ImapClient, token: str) -> Parsed | None:
    with contextlib.suppress(Refused):
        uids = await client.search("HEADER", "Subject", token)
        fetched = await client.fetch(uids[-1:], "(UID BODY.PEEK[HEADER])") if uids else {}
        for mail in fetched.values():
            return parse(bytes(mail.body or b""))
    return None


async def _nothing() -> None:
    """There is no effect whose state could be written down."""
