"""Catching up with a folder: from the stored cursor to its newest mail, each one registered.

Pushes are hints only: whatever woke us, the same search says what is new. The cursor moves in the
transaction that registers a mail; IMAP's flags are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from connectors.imap import origin as origins
from connectors.imap.client import ConnectionLost, ImapClient, Selected
from connectors.imap.fetched import Fetched
from connectors.imap.fetching import WHOLE_BYTES, Fetching
from connectors.imap.mail import Mail, ReadMail
from connectors.imap.origin import Origin
from connectors.imap.parse import Parsed
from connectors.imap.parsing import Parsing
from connectors.imap.rawstore import RawStore
from daemon.clock import Clock
from daemon.errors import PostroomError
from daemon.model import Cursor, Ignored, Inbound, Message, Unreadable
from daemon.ports import Intake

log = structlog.get_logger()

DEAD_LETTER_BYTES = 1 << 20  # of an unreadable mail; all of it stays in the mailbox
WINDOW_SECONDS = 7 * 86400.0  # how far back reconciliation looks
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

GONE = "gone before it could be fetched"
BREAKS = "fetching it broke the connection too often"
SENSELESS = "no sense could be made of it"

Between = Callable[[], Awaitable[None]]


class NoRoom(PostroomError):
    """Intake is full: the mail stays on the server, and is come back for."""


class CatchUp:
    """One folder's way into intake. The client is the caller's, and a new one after each fault.

    `searched` is called whenever the server has answered a search. Raises ConnectionLost, NoRoom,
    and what intake raises: then nothing of that mail is registered, and it comes again.
    """

    def __init__(
        self,
        *,
        name: str,
        folder: str,
        store: RawStore,
        parsing: Parsing,
        read: ReadMail,
        clock: Clock,
        searched: Callable[[], None],
    ) -> None:
        self.registered = 0
        self.behind = 0  # mails that were found and are not registered yet
        self._name = name
        self._folder = folder
        self._store = store
        self._fetching = Fetching(store)
        self._parsing = parsing
        self._read = read
        self._clock = clock
        self._searched = searched
        self._cursor = Cursor(name, folder, 0, 0)
        self._origin: Origin | None = None
        self._settled: frozenset[int] = frozenset()  # below the cursor, and known by content

    @property
    def cursor(self) -> Cursor:
        return self._cursor

    # --- where we are

    async def enter(self, client: ImapClient, intake: Intake) -> Selected:
        """Select the folder, and see whether its uids still mean what they did."""
        selected = await client.select(self._folder)
        cursor = await intake.cursor(self._name, self._folder)
        if cursor is None:
            cursor = await self._first_start(client, intake, selected)
        elif cursor.uidvalidity != selected.uidvalidity:
            cursor = await self._renumbered(client, intake, selected)
        elif self._origin is None:
            self._origin = await self._stored_origin(cursor)
        self._cursor = cursor
        return selected

    async def _first_start(self, client: ImapClient, intake: Intake, selected: Selected) -> Cursor:
        newest = (await client.search("UID", "*"))[-1:]
        facts = await self._fetching.facts(client, newest) if newest else {}
        arrived = max((fact.arrived or 0.0 for fact in facts.values()), default=0.0)
        uid = await _highest(client, selected)
        await self._begin_at(Origin(self._folder, selected.uidvalidity, uid, arrived))
        cursor = Cursor(self._name, self._folder, selected.uidvalidity, uid)
        await intake.set_cursor(cursor)
        log.info("folder.begun", connector=self._name, uid=uid)
        return cursor

    async def _renumbered(self, client: ImapClient, intake: Intake, selected: Selected) -> Cursor:
        """RFC 3501 2.3.1.1: every uid means another mail now. All are looked at once more, and
        those that are known by Message-ID and content stay as they were.
        """
        log.warning("folder.renumbered", connector=self._name, uidvalidity=selected.uidvalidity)
        before = await self._stored_origin(self._cursor)
        uid = await _highest(client, selected)
        await self._begin_at(Origin(self._folder, selected.uidvalidity, uid, before.arrived))
        self._fetching.forget()
        self._settled = frozenset()
        cursor = Cursor(self._name, self._folder, selected.uidvalidity, 0)
        await intake.set_cursor(cursor)
        return cursor

    @property
    def _origin_path(self) -> Path:
        return self._store.root / "origin.json"

    async def _stored_origin(self, cursor: Cursor) -> Origin:
        origin = await asyncio.to_thread(origins.load, self._origin_path, self._folder)
        if origin is None:  # lost: what is below the cursor, and older than a week, is let be
            arrived = self._clock.now() - WINDOW_SECONDS
            origin = Origin(self._folder, cursor.uidvalidity, cursor.uid, arrived)
            await self._begin_at(origin)
        return origin

    async def _begin_at(self, origin: Origin) -> None:
        await asyncio.to_thread(origins.save, self._origin_path, origin)
        self._origin = origin

    # --- looking

    async def look(self, client: ImapClient, intake: Intake, between: Between) -> None:
        """Register all that is above the cursor. `between` is awaited between two fetches."""
        # `n:*` finds the last mail even where it is below n (measured).
        found = await self._search(client, "UID", f"{self._cursor.uid + 1}:*")
        new = [uid for uid in found if uid > self._cursor.uid]
        await self._take(client, intake, new, between, advance=True)

    async def reconcile(self, client: ImapClient, intake: Intake, between: Between) -> None:
        """Register what came to light below the cursor, as some servers show a uid late."""
        day = datetime.fromtimestamp(self._clock.now() - WINDOW_SECONDS, UTC)
        since = f"{day.day}-{_MONTHS[day.month - 1]}-{day.year}"
        found = await self._search(client, "SINCE", since)
        origin, cursor = self._origin, self._cursor
        ours = origin is not None and origin.uidvalidity == cursor.uidvalidity
        border = origin.uid if origin is not None and ours else cursor.uid
        below = [uid for uid in found if border < uid <= cursor.uid and uid not in self._settled]
        known = await intake.knows(self._name, [self._outside_id(uid) for uid in below])
        late = [uid for uid in below if self._outside_id(uid) not in known]
        await self._take(client, intake, late, between, advance=False)
        self._settled = (self._settled | frozenset(late)) & frozenset(found)

    async def _search(self, client: ImapClient, *criteria: str) -> list[int]:
        # Dovecot searches what the connection has been told of (measured): have it told first.
        await client.noop()
        found = await client.search(*criteria)
        self._searched()
        return found

    async def _take(
        self,
        client: ImapClient,
        intake: Intake,
        uids: Sequence[int],
        between: Between,
        *,
        advance: bool,
    ) -> None:
        self.behind = len(uids)
        for chunk in self._fetching.chunks(uids):
            _see_room(intake)
            # The parsing process comes up while the server answers.
            facts, _ = await asyncio.gather(
                self._fetching.facts(client, chunk), self._parsing.warm()
            )
            for group in self._fetching.groups(chunk, facts):
                await self._let_others_work(client, between)
                _see_room(intake)
                await self._take_group(client, intake, group, facts, advance=advance)
                self.behind -= len(group)
            if advance and chunk[-1] > self._cursor.uid:  # the last ones were there before us
                self._cursor = self._at(chunk[-1])
                await intake.set_cursor(self._cursor)

    async def _let_others_work(self, client: ImapClient, between: Between) -> None:
        """Other work on this connection may select another folder."""
        await between()
        if client.folder == self._folder:
            return
        if (await client.select(self._folder)).uidvalidity != self._cursor.uidvalidity:
            raise ConnectionLost("the folder was renumbered meanwhile")

    async def _take_group(
        self,
        client: ImapClient,
        intake: Intake,
        group: Sequence[int],
        facts: Mapping[int, Fetched],
        *,
        advance: bool,
    ) -> None:
        ours = [uid for uid in group if uid not in facts or not self._was_before_us(facts[uid])]
        raws = await self._fetching.raws(client, [facts[uid] for uid in ours if uid in facts])
        parsing = self._parsing.each(raws[uid] for uid in ours if uid in raws)
        async with contextlib.aclosing(parsing) as parsed:
            for uid in ours:
                if uid in raws:
                    item = await self._item(intake, facts[uid], raws[uid], await anext(parsed))
                elif uid in facts and self._fetching.is_poison(uid):
                    item = await self._given_up(client, uid)
                else:
                    item = Ignored(self._name, self._outside_id(uid), GONE)
                cursor = self._at(uid) if advance else None
                await intake.accept(item, cursor)
                self._cursor = cursor or self._cursor
                self._fetching.done(uid)
                self.registered += 1
                if uid in raws and not isinstance(item, Message):
                    # Only a message's row names its file, and lets it go in time.
                    await asyncio.to_thread(raws[uid].unlink, missing_ok=True)

    def _was_before_us(self, fact: Fetched) -> bool:
        return self._origin is not None and self._origin.covers(self._cursor.uidvalidity, fact)

    # --- one mail

    async def _item(self, intake: Intake, fact: Fetched, path: Path, parsed: Parsed) -> Inbound:
        reason = parsed.broken
        if not reason:
            mail = Mail(
                folder=self._folder,
                uidvalidity=self._cursor.uidvalidity,
                uid=fact.uid,
                flags=fact.flags,
                size=fact.size,
                arrived=fact.arrived,
                parsed=parsed,
                raw_path=self._store.relative(path),
                too_large=fact.size > WHOLE_BYTES,
            )
            try:
                return await self._read(mail, intake)
            except PostroomError:
                raise
            except Exception:  # foreign bytes: whatever it is, this mail is kept and the next read
                log.exception("mail.not_understood", connector=self._name, uid=fact.uid)
                reason = SENSELESS
        raw = await asyncio.to_thread(_head, path)
        return Unreadable(self._name, self._outside_id(fact.uid), reason, raw)

    async def _given_up(self, client: ImapClient, uid: int) -> Unreadable:
        headers = await self._fetching.headers(client, uid)
        log.warning("mail.given_up", connector=self._name, uid=uid)
        return Unreadable(self._name, self._outside_id(uid), BREAKS, headers[:DEAD_LETTER_BYTES])

    def _at(self, uid: int) -> Cursor:
        return Cursor(self._name, self._folder, self._cursor.uidvalidity, uid)

    def _outside_id(self, uid: int) -> str:
        return f"{self._folder}:{self._cursor.uidvalidity}:{uid}"


async def _highest(client: ImapClient, selected: Selected) -> int:
    """The highest uid given so far; of a mail that is still there, where UIDNEXT is not told."""
    if selected.uidnext is not None:
        return selected.uidnext - 1
    return max(await client.search("UID", "*"), default=0)


def _see_room(intake: Intake) -> None:
    """Before anything is fetched: what is fetched is registered."""
    if reason := intake.full():
        raise NoRoom(reason)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(DEAD_LETTER_BYTES)
