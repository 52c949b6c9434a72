"""`postroom doctor` for the receiving half: each step of hearing a mailbox, tried once."""

from __future__ import annotations

import asyncio
import ssl

from connectors.imap.client import ImapClient, Limits, Refused
from connectors.imap.config import ImapTable
from connectors.imap.connecting import NotReached, connect
from daemon.errors import AuthenticationFailed, Unavailable
from daemon.model import Finding, HealthState

OK, WARN, FAIL = HealthState.PASS, HealthState.WARN, HealthState.FAIL

_LOGIN_MEND = (
    "check imap.user and imap.password; where the account has two-step verification, the provider "
    "wants an app password"
)
_FOLDERS_SHOWN = 10


async def diagnose_imap(
    name: str, table: ImapTable, tls: ssl.SSLContext | None = None
) -> tuple[Finding, ...]:
    """Connection, login, folder, IDLE, keywords. Changes nothing in the mailbox. Never raises."""
    part, server = f"{name}.imap", table.imap
    try:
        context = tls if tls is not None else await _system_tls()
        client = await connect(server, context, Limits())
    except NotReached as error:
        return (Finding(part, FAIL, str(error), error.mend),)
    except AuthenticationFailed as error:
        reached = Finding(part, OK, f"{server.host}:{server.port}, {server.security}")
        return (reached, Finding(f"{part}.login", FAIL, str(error), _LOGIN_MEND))
    except Unavailable as error:
        return (Finding(part, FAIL, str(error), "see the mail server's own log"),)
    findings = [
        Finding(part, OK, f"{server.host}:{server.port}, {client.tls or 'no TLS (loopback)'}"),
        Finding(f"{part}.login", OK, f"as {server.user}"),
    ]
    try:
        findings += await _look_inside(part, table, client)
    except (Unavailable, Refused) as error:
        findings.append(Finding(f"{part}.folder", FAIL, str(error), "see the server's own log"))
    finally:
        await client.close()
    return tuple(findings)


async def _look_inside(part: str, table: ImapTable, client: ImapClient) -> list[Finding]:
    try:
        # Not read-only: what may be stored is told only then.
        selected = await client.select(table.folder)
    except Refused as refused:
        names = [folder.name for folder in await client.folders()][:_FOLDERS_SHOWN]
        mend = f"set folder to one that is there: {', '.join(names)}"
        return [Finding(f"{part}.folder", FAIL, str(refused), mend)]
    found = len(await client.search("ALL"))
    keywords = Finding(f"{part}.keywords", OK, "labels can be stored")
    if not selected.keywords:
        detail = "the server keeps no keywords of ours: labels cannot be stored"
        keywords = Finding(f"{part}.keywords", WARN, detail, "live without labels")
    return [
        Finding(f"{part}.folder", OK, f"{table.folder} has {found} mails"),
        await _try_idle(part, client),
        keywords,
    ]


async def _try_idle(part: str, client: ImapClient) -> Finding:
    mend = "ask the provider for IDLE; until then a mail is noticed some seconds later"
    if not client.can_idle:
        return Finding(f"{part}.idle", WARN, "no IDLE: new mail is looked for now and then", mend)
    try:
        await client.idle(0.0, lambda: None)
    except Refused as refused:
        return Finding(f"{part}.idle", WARN, str(refused), mend)
    return Finding(f"{part}.idle", OK, "new mail is told at once")


async def _system_tls() -> ssl.SSLContext:
    return await asyncio.to_thread(ssl.create_default_context)
