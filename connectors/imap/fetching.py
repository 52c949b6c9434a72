"""Fetching mails onto the disk: small ones together, large ones by parts, and which one is poison.

A mail whose fetch breaks the connection is fetched alone, then given up: the others go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from connectors.imap.client import ConnectionLost, ImapClient, Refused
from connectors.imap.fetched import Fetched
from connectors.imap.rawstore import RawStore

ASKED_AT_ONCE = 200  # uids whose facts come in one answer
GROUP_MAILS, GROUP_BYTES = 50, 2 << 20  # small mails fetched together: a round trip for many
SMALL_BYTES = 256 << 10
PART_BYTES = 1 << 20  # what is larger comes by parts, straight to the disk
WHOLE_BYTES = 30 << 20
HEAD_BYTES = 512 << 10  # of a larger mail: its headers and, as a rule, its text
TRIES = 3  # connections that one mail may break


class Fetching:
    """What is remembered from one connection to the next of the mails that are being fetched."""

    def __init__(self, store: RawStore) -> None:
        self._store = store
        self._breaks: Counter[int] = Counter()
        self._alone_until = 0  # up to this uid each mail is fetched alone

    def forget(self) -> None:
        """The uids mean other mails now."""
        self._breaks.clear()
        self._alone_until = 0

    def is_poison(self, uid: int) -> bool:
        return self._breaks[uid] >= TRIES

    def chunks(self, uids: Sequence[int]) -> Iterator[list[int]]:
        """So many as one question for `facts` takes."""
        rest = iter(uids)
        while chunk := list(islice(rest, 1)):
            if chunk[0] > self._alone_until:
                chunk += islice(rest, ASKED_AT_ONCE - 1)
            yield chunk

    def groups(self, uids: Sequence[int], facts: Mapping[int, Fetched]) -> Iterator[list[int]]:
        """Small mails together, in order; what is large or suspect alone."""
        group: list[int] = []
        room = GROUP_BYTES
        for uid in uids:
            size = facts[uid].size if uid in facts else 0
            alone = size > SMALL_BYTES or uid <= self._alone_until
            if group and (alone or size > room or len(group) == GROUP_MAILS):
                yield group
                group, room = [], GROUP_BYTES
            group.append(uid)
            room -= size
            if alone:
                yield group
                group, room = [], GROUP_BYTES
        if group:
            yield group

    async def facts(self, client: ImapClient, uids: Sequence[int]) -> dict[int, Fetched]:
        """Flags, size and time of arrival, by uid. A mail that is gone is not among them;
        of a poisonous one nothing is asked.
        """
        sound = [uid for uid in uids if not self.is_poison(uid)]
        found = {uid: Fetched(uid) for uid in uids if self.is_poison(uid)}
        if sound:
            found |= await self._fetch(client, sound, "(UID FLAGS INTERNALDATE RFC822.SIZE)")
        return found

    async def raws(self, client: ImapClient, wanted: Sequence[Fetched]) -> dict[int, Path]:
        """Fetch mails of one group; where they are on the disk. Gone and poison are left out."""
        wanted = [fact for fact in wanted if not self.is_poison(fact.uid)]
        if not wanted:
            return {}
        if len(wanted) == 1 and wanted[0].size > PART_BYTES:
            return await self._by_parts(client, wanted[0])
        uids = [fact.uid for fact in wanted]
        fetched = await self._fetch(client, uids, "(UID BODY.PEEK[])")
        bodies = {uid: one.body for uid, one in fetched.items() if one.body is not None}
        return await asyncio.to_thread(self._store.keep_all, bodies)

    async def headers(self, client: ImapClient, uid: int) -> bytes:
        """A poisonous mail's headers, if they can be had; tried once."""
        if self._breaks[uid] > TRIES:
            return b""
        fetched = await self._fetch(client, [uid], "(UID BODY.PEEK[HEADER])")
        return bytes(fetched[uid].body or b"") if uid in fetched else b""

    def done(self, uid: int) -> None:
        self._breaks.pop(uid, None)

    async def _by_parts(self, client: ImapClient, fact: Fetched) -> dict[int, Path]:
        limit = HEAD_BYTES if fact.size > WHOLE_BYTES else WHOLE_BYTES
        draft = await asyncio.to_thread(self._store.draft)
        try:
            position = 0
            while position < limit:
                wanted = min(PART_BYTES, limit - position)
                items = f"(UID BODY.PEEK[]<{position}.{wanted}>)"
                one = (await self._fetch(client, [fact.uid], items)).get(fact.uid)
                if one is None or one.body is None:
                    return {}
                await asyncio.to_thread(draft.write, one.body)
                position += len(one.body)
                if len(one.body) < wanted:
                    break
            return {fact.uid: await asyncio.to_thread(self._store.keep, draft)}
        finally:
            await asyncio.to_thread(draft.discard)

    async def _fetch(
        self, client: ImapClient, uids: Sequence[int], items: str
    ) -> dict[int, Fetched]:
        try:
            return await client.fetch(uids, items)
        except ConnectionLost:
            self._blame(uids)
            raise
        except Refused as refused:
            if len(uids) > 1:  # one of them is at fault: each for itself
                found: dict[int, Fetched] = {}
                for uid in uids:
                    found |= await self._fetch(client, [uid], items)
                return found
            await client.noop()  # RFC 5530 EXPUNGEISSUED: gone meanwhile, and now it may be told
            if not await client.search("UID", str(uids[0])):
                return {}
            self._blame(uids)
            raise ConnectionLost(f"a mail cannot be fetched: {refused}") from refused

    def _blame(self, uids: Sequence[int]) -> None:
        if len(uids) == 1:
            self._breaks[uids[0]] += 1
        else:
            self._alone_until = uids[-1]
