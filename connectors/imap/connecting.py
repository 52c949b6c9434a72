"""From nothing to a logged-in IMAP connection, and what a failure on the way means to a person."""

from __future__ import annotations

import asyncio
import socket
import ssl

from aioimaplib import aioimaplib as lib

from connectors.imap.client import ConnectionLost, ImapClient, Limits, Refused
from connectors.imap.config import ImapServer
from connectors.imap.protocol import HardenedProtocol


class NotReached(ConnectionLost):
    """No login was tried: the server is away, or is not what the configuration says.

    `mend` is what a person may do about it.
    """

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


async def connect(server: ImapServer, context: ssl.SSLContext, limits: Limits) -> ImapClient:
    """A logged-in connection. Raises NotReached, ConnectionLost, AuthenticationFailed."""
    client, greeting = await _open(server, context, limits)
    try:
        await _enter(client, server, context, greeting)
    except BaseException:
        client.abort()
        raise
    return client


async def _open(
    server: ImapServer, context: ssl.SSLContext, limits: Limits
) -> tuple[ImapClient, bytes]:
    """The connection, TLS where it comes first, and the greeting."""
    loop = asyncio.get_running_loop()
    protocol = HardenedProtocol(loop)
    client = ImapClient(protocol, limits)
    try:
        async with asyncio.timeout(limits.connect):
            await loop.create_connection(
                lambda: protocol,
                server.host.strip("[]"),
                server.port,
                ssl=context if server.security == "tls" else None,
            )
            return client, await protocol.greeting
    except (OSError, TimeoutError, lib.AioImapException) as error:
        client.abort()
        raise not_reached(server, error) from error
    except BaseException:
        client.abort()
        raise


async def _enter(
    client: ImapClient, server: ImapServer, context: ssl.SSLContext, greeting: bytes
) -> None:
    """From the greeting to a login. PREAUTH is refused: it would skip STARTTLS and our user."""
    if not greeting.upper().startswith(b"* OK"):
        said = greeting[:200].decode("utf-8", "replace").strip()
        raise ConnectionLost(f"{server.host} does not let us in: {said}")
    try:
        await client.read_capabilities()
        if server.security == "starttls":
            await client.starttls(context, server.host)
        await client.login(server)
    except ssl.SSLError as error:
        raise not_reached(server, error) from error
    except Refused as refused:
        raise ConnectionLost(f"{server.host}: {refused}") from refused


def not_reached(server: ImapServer, error: Exception) -> NotReached:
    """What went wrong before the greeting, and its mend."""
    where = f"{server.host}:{server.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotReached(
            f"{where}: its certificate is not trusted ({error.verify_message})",
            "use the name that the certificate bears, or give its authority in SSL_CERT_FILE",
        )
    if isinstance(error, ssl.SSLError):
        return NotReached(
            f"{where}: it does not speak TLS ({error.reason or type(error).__name__})",
            'port 993 goes with security = "tls", port 143 with "starttls"',
        )
    if isinstance(error, socket.gaierror):
        return NotReached(f"{server.host}: no such host", "check imap.host, and the resolver")
    if isinstance(error, ConnectionRefusedError):
        return NotReached(f"{where}: nothing listens there", "check imap.host and imap.port")
    if isinstance(error, TimeoutError):
        return NotReached(
            f"{where}: no greeting in time",
            'check imap.port, imap.security ("tls" on a STARTTLS port is silent) and firewalls',
        )
    return NotReached(f"{where}: {type(error).__name__}", "see the mail server's own log")
