"""A receiving SMTP server for the tests: aiosmtpd, with each mail's outcome scripted.

An outcome is a reply ("451 4.7.1 later", "550 5.1.1 no"), "accept", "die" (the mail is taken, and
the connection ends before the client hears of it) or "hang" (taken, and never answered).
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Taken:
    """A mail that the server has taken."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes


@dataclass
class SmtpSink:
    """`async with SmtpSink(...) as sink`; it listens on `sink.port` of loopback.

    `script` are the outcomes of the next mails; `refused` are replies to a sender or recipient by
    address; `login` is the one user and password, where it asks for them. `tls` is spoken from the
    first byte, `starttls` on demand. `deliver` is what becomes of a mail that was taken (it may
    block).
    """

    script: deque[str] = field(default_factory=deque)
    refused: dict[str, str] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    starttls: ssl.SSLContext | None = None
    deliver: Callable[[Taken], None] | None = None
    taken: list[Taken] = field(default_factory=list)
    turned_away: int = 0
    connections: int = 0
    closed: int = 0
    logins: int = 0
    port: int = 0
    _open: list[asyncio.BaseTransport] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the same port as before, where it was stopped."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port, and hang up on everybody."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None

    def hang_up(self) -> None:
        for transport in self._open:
            # One of TLS that closes already cannot be aborted in Python 3.11.2.
            if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
                transport.abort()
        self._open.clear()

    async def until(self, condition: Callable[[], object]) -> None:
        """Until it is true, looked at whenever something has happened."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _protocol(self) -> SMTP:
        sink = self

        class Connection(SMTP):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sink.connections += 1
                sink._open.append(transport)
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                sink.closed += 1
                sink._changed.set()
                super().connection_lost(error)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # AUTH without TLS: it is loopback
            return Connection(
                self,
                hostname="sink.test",
                data_size_limit=40_000_000,
                tls_context=self.starttls,
                require_starttls=self.starttls is not None,
                auth_require_tls=False,
                auth_required=self.login is not None,
                authenticator=self._authenticate,
                loop=asyncio.get_running_loop(),
            )

    # --- aiosmtpd's hooks

    def _authenticate(
        self, _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        self.logins += 1
        self._changed.set()
        given = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self.login, handled=False)

    async def handle_MAIL(  # noqa: N802 - the library's names
        self, _server: Any, _session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address in self.refused:
            return self._turn_away(self.refused[address])
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address in self.refused:
            return self._turn_away(self.refused[address])
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        outcome = self.script.popleft() if self.script else "accept"
        if outcome[0].isdigit():
            return self._turn_away(outcome)
        sender, raw = str(envelope.mail_from), bytes(envelope.original_content or b"")
        taken = Taken(sender, tuple(envelope.rcpt_tos), raw)
        if self.deliver is not None:
            await asyncio.to_thread(self.deliver, taken)
        self.taken.append(taken)
        self._changed.set()
        if outcome == "die":
            server.transport.abort()
        elif outcome == "hang":
            await asyncio.Event().wait()
        return "250 2.0.0 OK"

    def _turn_away(self, reply: str) -> str:
        self.turned_away += 1
        self._changed.set()
        return reply
