"""`StandInMail`: a mail provider on loopback, the people who write to it, and what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Self

from daemon.demo.mail.imap import ImapServer
from daemon.demo.mail.letters import MX, Letter, address_of, compose, stamp
from daemon.demo.mail.smtp import SmtpServer


class StandInMail:
    """`async with StandInMail(["support@example.test"]) as mail: mail.imap_port, mail.smtp_port`.

    Each address is a mailbox and an IMAP user of that name; who writes gets a mailbox, too, so that
    an answer has somewhere to go. `password` is the same for all of them.
    """

    password = "stand-in-mail"
    authserv_id = MX

    def __init__(self, addresses: Sequence[str], *, imap_port: int = 0, smtp_port: int = 0) -> None:
        self._addresses = [address.lower() for address in addresses]
        self.imap_port, self.smtp_port = imap_port, smtp_port
        self._changed = asyncio.Event()
        self._imap = ImapServer(self.password, self._tell)
        self._smtp = SmtpServer(lambda: self._imap.addresses, self._take)

    async def __aenter__(self) -> Self:
        for address in self._addresses:
            await self._imap.open_mailbox(address)
        self.imap_port = await self._imap.start(self.imap_port)
        self.smtp_port = await self._smtp.start(self.smtp_port)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._smtp.stop()
        await self._imap.stop()

    async def write(
        self,
        writer: str,
        to: str,
        subject: str,
        text: str,
        *,
        answers: Letter | None = None,
        headers: Mapping[str, str] | None = None,
        authenticated: bool = True,
    ) -> Letter:
        """A person sends a mail; the letter as it lies in the recipient's INBOX.

        `writer` may have a name before the address. `answers` puts it into that letter's thread.
        Unauthenticated: the receiving server could not tell that it really is from there.
        """
        await self._open(address_of(writer))
        raw = compose(writer, to, subject, text, answers=answers, headers=headers)
        await self._imap.put(address_of(writer), "Sent", raw)
        stamped = stamp(raw, address_of(writer), authenticated=authenticated)
        return await self._imap.put(address_of(to), "INBOX", stamped)

    async def put(self, address: str, raw: bytes, folder: str = "INBOX") -> Letter:
        """Any bytes at all, as they are."""
        return await self._imap.put(address, folder, raw)

    @property
    def addresses(self) -> Collection[str]:
        return self._imap.addresses

    async def letters(self, address: str, folder: str = "INBOX") -> list[Letter]:
        """What lies in a folder, oldest first. Raises KeyError: there is no such folder."""
        return await self._imap.read(address, folder)

    async def wait_for(
        self,
        address: str,
        wanted: Callable[[Letter], bool],
        folder: str = "INBOX",
        *,
        within: float = 30.0,
    ) -> Letter:
        """The first letter in a folder that is wanted. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while True:
                self._changed.clear()
                for letter in await self.letters(address, folder):
                    if wanted(letter):
                        return letter
                await self._changed.wait()

    async def answer_to(self, letter: Letter, *, within: float = 30.0) -> Letter:
        """The answer that came back to the writer of a letter. Raises TimeoutError."""

        def answers(found: Letter) -> bool:
            return found.header("In-Reply-To").strip() == letter.message_id

        return await self.wait_for(address_of(letter.header("From")), answers, within=within)

    async def _open(self, address: str) -> None:
        if address not in self._imap.addresses:
            await self._imap.open_mailbox(address)

    async def _take(self, mail_from: str, recipients: list[str], raw: bytes) -> None:
        for address in recipients:
            await self._imap.put(address, "INBOX", stamp(raw, mail_from, authenticated=True))

    def _tell(self) -> None:
        self._changed.set()
