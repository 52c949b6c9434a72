"""What we do in the mailbox itself: drafts, labels, copies in Sent, and looking for each of them.

All of it can be asked for afterwards by Message-ID, or done twice without harm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from aioimaplib import aioimaplib as lib

from connectors.imap.client import ImapClient, Refused
from connectors.imap.outbound import Envelope, Place, mails_of
from daemon.clock import Clock
from daemon.errors import Unavailable
from daemon.model import Effect, NotNow, Receipt, Rejected, Sent, Sighting, Unclear

T = TypeVar("T")

REFUSED_SECONDS = 300.0  # a full mailbox, a missing folder: a person must act
LOOK_APART_SECONDS = 3.0
GONE = "the mail is no longer there"

_Sending = Callable[[], Awaitable[None]]


class Work(Protocol):
    """The mailbox's connection for other work (mailbox.py). Both raise Unavailable."""

    async def work(self, job: Callable[[ImapClient], Awaitable[T]]) -> T: ...

    async def special(self, use: str) -> str: ...


class Filing:
    """Drafts, labels and copies of one mailbox."""

    def __init__(self, mailbox: Work, clock: Clock, look_apart: float = LOOK_APART_SECONDS) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._look_apart = look_apart

    # --- drafts

    async def leave_draft(self, mail: Envelope, sending: _Sending) -> Receipt:
        """APPEND to Drafts. Cut off in the middle, it may be there or not."""
        begun = False

        try:
            folder = await self._mailbox.special("Drafts")

            async def append(client: ImapClient) -> None:
                nonlocal begun
                await sending()
                begun = True
                await client.append(folder, mail.raw, r"(\Draft \Seen)")

            await self._mailbox.work(append)
        except Refused as refused:
            return NotNow(f"the server takes no draft: {refused}", REFUSED_SECONDS)
        except Unavailable as error:
            return Unclear(str(error)) if begun else NotNow(str(error), error.retry_after)
        return Sent(mail.message_id)

    async def find_draft(self, mail: Envelope) -> Sent | Sighting:
        """Absence is proof here, as only our own APPEND could have put it there: the server has
        had a moment to end a command that was cut off, and looks on a connection of today. Whoever
        has sent the draft meanwhile has it in Sent. One that a person has thrown away comes again:
        a draft too many harms less than an answer that never was.
        """
        try:
            for last in (False, True):
                for use in ("Drafts", "Sent"):
                    if await self.holds(use, mail.message_id):
                        return Sent(mail.message_id)
                if not last:
                    await self._clock.sleep(self._look_apart)
        except Refused:
            return Sighting.UNKNOWN
        return Sighting.ABSENT

    # --- what was sent

    async def find_sent(self, mail: Envelope) -> Sent | Sighting:
        """Presence in Sent is proof, and in Drafts, where a mail ends that may not be sent any
        more. Absence is none: the copy in Sent is the server's affair, and ours comes only after
        the server has taken the mail.
        """
        for use in ("Sent", "Drafts"):
            with contextlib.suppress(Refused):
                if await self.holds(use, mail.message_id):
                    return Sent(mail.message_id)
        return Sighting.UNKNOWN

    async def holds(self, use: str, message_id: str) -> bool:
        """Whether "Sent" or "Drafts" has a mail of that id. Raises Unavailable, Refused."""
        folder = await self._mailbox.special(use)

        async def look(client: ImapClient) -> bool:
            return bool(await _by_id(client, folder, message_id))

        return await self._mailbox.work(look)

    async def file_copy(self, message_id: str, raw: bytes) -> None:
        """A copy in Sent, unless the server has filed one itself (Gmail and Exchange do), or we
        did before a cut. Raises Unavailable, Refused.
        """
        folder = await self._mailbox.special("Sent")

        async def file(client: ImapClient) -> None:
            if not await _by_id(client, folder, message_id):
                await client.append(folder, raw, r"(\Seen)")

        await self._mailbox.work(file)

    async def mark_answered(self, mails: Sequence[Place]) -> None:
        r"""`\Answered`, as a mail program sets it. One that was moved or deleted needs none, and a
        folder that keeps no flags is nobody's trouble. Raises Unavailable.
        """

        async def store(client: ImapClient) -> None:
            for mail in mails:
                with contextlib.suppress(Refused):
                    if (place := await _place(client, mail)) is not None:
                        await client.add_flag([place[0]], r"\Answered")

        await self._mailbox.work(store)

    # --- labels

    async def label(self, effect: Effect, sending: _Sending) -> Receipt:
        """A keyword on each of the effect's mails. A mail that somebody has moved or deleted since
        needs none.
        """
        keyword = str(effect.body["keyword"])

        async def store(client: ImapClient) -> Receipt:
            receipt: Receipt = Sent(GONE)
            begun = False
            for mail in mails_of(effect):
                place = await _place(client, mail)
                if place is None:
                    continue
                uid, keywords = place
                if not keywords:
                    return Rejected("the server keeps no keywords (PERMANENTFLAGS)")
                if not begun:
                    await sending()
                    begun = True
                await client.add_flag([uid], keyword)
                receipt = Sent(keyword)
            return receipt

        try:
            return await self._mailbox.work(store)
        except Refused as refused:
            return Rejected(str(refused))

    async def find_label(self, effect: Effect) -> Sent | Sighting:
        """To store a keyword twice is to store it once: what is not there is stored again."""
        keyword = str(effect.body["keyword"])

        async def look(client: ImapClient) -> Sent | Sighting:
            found: Sent | Sighting = Sent(GONE)
            for mail in mails_of(effect):
                place = await _place(client, mail)
                if place is None:
                    continue
                if not await client.search("UID", str(place[0]), "KEYWORD", keyword):
                    return Sighting.ABSENT
                found = Sent(keyword)
            return found

        try:
            return await self._mailbox.work(look)
        except Refused:
            return Sighting.UNKNOWN


async def _place(client: ImapClient, mail: Place) -> tuple[int, bool] | None:
    """A mail's uid as it is now, its folder selected, and whether that keeps new keywords. None:
    it is not in its folder any more.
    """
    folder, uidvalidity, uid, message_id = mail
    selected = await client.select(str(folder))
    if selected.uidvalidity == uidvalidity and await client.search("UID", str(int(uid))):
        return int(uid), selected.keywords
    found = await _search_id(client, str(message_id)) if message_id else []
    return (found[-1], selected.keywords) if found else None


async def _by_id(client: ImapClient, folder: str, message_id: str) -> list[int]:
    await client.select(folder, read_only=True)
    return await _search_id(client, message_id)


async def _search_id(client: ImapClient, message_id: str) -> list[int]:
    return await client.search("HEADER", "Message-ID", lib.quoted(message_id))
