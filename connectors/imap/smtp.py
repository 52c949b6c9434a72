"""Handing mails to the SMTP server: one connection, kept for a while, and what each ending means.

SMTP has no key against duplicates. Up to RCPT nothing has been taken; from DATA on, only the
server's own word settles it, and where that word is missing the mail may have been taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPResponseException,
    SMTPSenderRefused,
)

from connectors.imap.config import SmtpServer
from connectors.imap.outbound import Envelope
from daemon.clock import Clock
from daemon.model import NotNow, Receipt, Rejected, Sent, Unclear

log = structlog.get_logger()

_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_Failure = (SMTPException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class SmtpTiming:
    """In seconds. `keep` is how long an unused connection stays; `rest` how long a server that
    cannot be used is left alone, `barred` the same where it refuses us (or it locks the account).
    """

    connect: float = 15.0
    command: float = 30.0
    data: float = 120.0
    keep: float = 30.0
    rest: float = 5.0
    barred: float = 300.0


class Smtp:
    """Where mails are handed over. `trouble` is empty, or why no mail can leave at the moment."""

    def __init__(
        self, server: SmtpServer, domain: str, clock: Clock, timing: SmtpTiming | None = None
    ) -> None:
        self._server = server
        self._domain = domain
        self._clock = clock
        self._timing = timing or SmtpTiming()
        self._lock = asyncio.Lock()
        self._client: SMTP | None = None
        self._context: ssl.SSLContext | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._again_at = 0.0
        self.trouble = ""
        self.handed_over = 0

    async def send(self, mail: Envelope, sending: Callable[[], Awaitable[None]]) -> Receipt:
        """Hand a mail over, once. `sending` is awaited after RCPT and before DATA."""
        async with self._lock:
            client = await self._connected()
            if isinstance(client, NotNow):
                return client
            try:
                return await self._hand_over(client, mail, sending)
            except BaseException:
                self._drop()  # cut off in the middle: nothing more may come of this connection
                raise
            finally:
                self._keep_a_while()

    async def check(self, sender: str) -> str:
        """Do all that comes before a recipient. Empty, or why it does not work."""
        async with self._lock:
            client = await self._connected()
            if isinstance(client, NotNow):
                return client.reason
            try:
                if await self._begin(client, sender) is None:
                    await self._reset(client)
                    self.trouble = ""
            except BaseException:
                self._drop()
                raise
            finally:
                self._keep_a_while()
            return self.trouble

    async def close(self) -> None:
        """Say goodbye, for two seconds at most. Never raises."""
        client, self._client = self._client, None
        if self._closing is not None:
            self._closing.cancel()
        if client is not None:
            with contextlib.suppress(*_Failure):
                await client.quit(timeout=2.0)
            client.close()

    # --- one mail -------------------------------------------------------------------------------

    async def _hand_over(
        self, client: SMTP, mail: Envelope, sending: Callable[[], Awaitable[None]]
    ) -> Receipt:
        refused = await self._begin(client, mail.sender)
        if refused is not None:
            return refused
        self.trouble = ""
        try:
            for recipient in mail.recipients:
                await client.rcpt(recipient)
        except SMTPResponseException as error:
            await self._reset(client)
            return _refusal("the recipient is refused", error, NotNow(_told(error), 0.0))
        except _Failure as error:
            self._drop()
            return self._not_usable("cut off before the mail", error)
        await sending()
        try:
            await client.data(mail.raw, timeout=self._timing.data)
        except SMTPDataError as error:
            return _refusal("the mail is refused", error, Unclear(_told(error)))
        except _Failure as error:
            self._drop()
            return Unclear(f"cut off after DATA ({type(error).__name__})")
        self.handed_over += 1
        return Sent(mail.message_id)

    async def _begin(self, client: SMTP, sender: str) -> NotNow | None:
        """MAIL. Where our own address is refused it is no fault of this mail."""
        try:
            await client.mail(sender)
        except SMTPSenderRefused as error:
            await self._reset(client)
            passing = 400 <= error.code < 500
            return self._not_usable(f"{sender} is refused", error, barred=not passing)
        except _Failure as error:
            self._drop()
            return self._not_usable("cut off before the mail", error)
        return None

    async def _reset(self, client: SMTP) -> None:
        try:
            await client.rset()
        except _Failure:
            self._drop()

    # --- the connection -------------------------------------------------------------------------

    async def _connected(self) -> SMTP | NotNow:
        if self._closing is not None:
            self._closing.cancel()
        if self._client is not None and await self._answers(self._client):
            return self._client
        self._drop()
        wait = self._again_at - self._clock.monotonic()
        if wait > 0:
            return NotNow(self.trouble, wait)
        try:
            self._client = await self._connect()
        except SMTPAuthenticationError as error:
            barred = not 400 <= error.code < 500
            return self._not_usable("the user or the password is refused", error, barred=barred)
        except _Failure as error:
            return self._not_usable("not reached", error)
        return self._client

    async def _connect(self) -> SMTP:
        server = self._server
        if self._context is None and server.security != "plain":
            self._context = await asyncio.to_thread(ssl.create_default_context)
        client = SMTP(
            hostname=server.host.strip("[]"),
            port=server.port,
            username=server.user,
            password=server.password.reveal() if server.password else None,
            local_hostname=self._domain,
            timeout=self._timing.command,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=self._context,
        )
        try:
            async with asyncio.timeout(self._timing.connect):
                await client.connect()
        except BaseException:
            client.close()
            raise
        return client

    async def _answers(self, client: SMTP) -> bool:
        """Whether a kept connection still lives: a server may have closed it meanwhile."""
        if not client.is_connected:
            return False
        try:
            await client.noop(timeout=min(self._timing.command, 5.0))
        except _Failure:
            return False
        return client.is_connected

    def _not_usable(self, what: str, error: BaseException, *, barred: bool = False) -> NotNow:
        """No mail can leave: said in health, and the server left alone for a while."""
        rest = self._timing.barred if barred else self._timing.rest
        self.trouble = f"SMTP: {what}: {_told(error)}"
        self._again_at = self._clock.monotonic() + rest
        log.warning("smtp.not_usable", host=self._server.host, reason=self.trouble)
        return NotNow(self.trouble, rest if barred else 0.0)

    def _keep_a_while(self) -> None:
        if self._client is not None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(self._timing.keep, self._drop)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _refusal(what: str, error: SMTPResponseException, otherwise: Receipt) -> Receipt:
    """4xx passes, 5xx does not (RFC 5321 4.2.1); `otherwise` is what another code comes to."""
    if 400 <= error.code < 500:
        return NotNow(f"{what}: {_told(error)}", 0.0)
    if 500 <= error.code < 600:
        return Rejected(f"{what}: {_told(error)}")
    return otherwise


def _told(error: BaseException) -> str:
    """An error in one short line, for operators and the log: no correspondent's address in it."""
    text = str(error) or type(error).__name__
    if isinstance(error, SMTPResponseException):
        text = f"{error.code} {error.message}"
    return _ADDRESS.sub("(address)", " ".join(text.split()))[:200]
