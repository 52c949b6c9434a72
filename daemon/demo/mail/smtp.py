"""aiosmtpd as the receiving server: what it accepts lies in the recipient's mailbox at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_BYTES = 40_000_000

Deliver = Callable[[str, list[str], bytes], Awaitable[None]]
"""Of an envelope's sender, its recipients and the mail as it was sent."""


class SmtpServer:
    """Takes mail for known addresses only: nothing can be relayed from here."""

    def __init__(self, known: Callable[[], Collection[str]], deliver: Deliver) -> None:
        self._known, self._deliver = known, deliver
        self._server: asyncio.Server | None = None
        self._sessions: list[SMTP] = []

    async def start(self, port: int) -> int:
        """Listen on loopback; the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", port)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await self._server.wait_closed()

    def _session(self) -> SMTP:
        self._sessions = [s for s in self._sessions if s.transport is not None]
        session = SMTP(
            self,
            hostname="mail.example.test",
            ident="Postroom's mail stand-in (aiosmtpd)",
            data_size_limit=MAX_BYTES,
            enable_SMTPUTF8=True,
            loop=asyncio.get_running_loop(),
        )
        self._sessions.append(session)
        return session

    # aiosmtpd finds these by their names.

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address.lower() not in self._known():
            return "550 5.1.1 No such mailbox in this stand-in"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        raw = envelope.original_content or b""
        recipients = [address.lower() for address in envelope.rcpt_tos]
        await self._deliver(envelope.mail_from or "", recipients, raw)
        return "250 2.0.0 Delivered"
