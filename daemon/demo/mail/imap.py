"""pymap as a mailbox server, with what providers have beyond it: SPECIAL-USE and keywords.

pymap's own dict backend stores no keywords and marks no folder as Drafts or Sent; both are added
here at its own seams.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.concurrent import Event, Subsystem
from pymap.config import BackendCapability
from pymap.flags import FlagOp
from pymap.imap import IMAPServer
from pymap.interfaces.message import CachedMessage
from pymap.listtree import ListEntry, ListTree
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials import FetchRequirement, ObjectId
from pymap.parsing.specials.flag import Flag, Wildcard
from pymap.selected import SelectedMailbox
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from daemon.demo.mail.letters import Letter

SPECIAL_USE = {"Drafts": b"Drafts", "Sent": b"Sent", "Junk": b"Junk", "Trash": b"Trash"}


class ImapServer:
    """Mailboxes in memory, each with a user of its own name. `changed` is called on each change."""

    def __init__(self, password: str, changed: Callable[[], None]) -> None:
        self._password, self._changed = password, changed
        self._config = _Config()
        self._login = Login(self._config)
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @property
    def addresses(self) -> Collection[str]:
        return self._config.set_cache.keys()

    async def start(self, port: int) -> int:
        """Listen on loopback; the port."""
        self._config.apply_context()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._sessions.values():
            writer.transport.abort()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()

    async def open_mailbox(self, address: str) -> None:
        """A mailbox with its special folders. The user's name is the address."""
        folders = _Folders(self._changed)
        for name in SPECIAL_USE:
            await folders.add_mailbox(name)
        self._config.set_cache[address] = (folders, FilterSet())
        user = UserMetadata(self._config, address, password=self._password)
        self._login.users_dict[address] = user

    async def put(self, address: str, folder: str, raw: bytes) -> Letter:
        """Deliver a mail; the letter as it lies there. Raises KeyError: no such mailbox."""
        box = await self._folder(address, folder)
        return await _letter(address, folder, box, await box.append(AppendMessage(raw)))

    async def read(self, address: str, folder: str) -> list[Letter]:
        """Every mail of a folder, oldest first."""
        box = await self._folder(address, folder)
        return [await _letter(address, folder, box, mail) async for mail in box.messages()]

    async def _folder(self, address: str, folder: str) -> MailboxData:
        return await self._config.set_cache[address][0].get_mailbox(folder)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None  # noqa: S101 - asyncio runs this in a task
        self._sessions[session] = writer
        try:
            serve = IMAPServer(self._login, self._config)
            await serve(reader, writer, SocketInfo.get(writer, None))
        finally:
            del self._sessions[session]


async def _letter(address: str, folder: str, box: MailboxData, mail: Message) -> Letter:
    content = await mail.load_content(FetchRequirement.CONTENT)
    return Letter(
        mailbox=address,
        folder=folder,
        uid=mail.uid,
        uidvalidity=box.uid_validity,
        flags=frozenset(str(flag) for flag in mail.permanent_flags),
        at=mail.internal_date.timestamp(),
        raw=bytes(content),
    )


class _Config(Config):
    """pymap's settings for loopback: no TLS, no look-up of names, passwords as they are."""

    def __init__(self) -> None:
        super().__init__(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            demo_data=False,
            demo_user="",
            demo_password="",
            host="127.0.0.1",
            port=0,
            tls_enabled=False,
            hash_context=Cleartext(),
            cpu_subsystem=Subsystem.for_asyncio(),
        )

    @property
    def greeting(self) -> bytes:
        return b"Postroom's mail stand-in (pymap); nothing leaves this machine"

    @property
    def backend_capability(self) -> BackendCapability:
        return BackendCapability(
            idle=True, object_id=True, multi_append=True, custom=[b"SPECIAL-USE"]
        )


class _Box(MailboxData):
    """A folder that stores keywords, as providers do."""

    changed: Callable[[], None]

    @property
    def permanent_flags(self) -> frozenset[Flag]:
        return super().permanent_flags | {Wildcard}

    async def update_selected(
        self, selected: SelectedMailbox, *, wait_on: Event | None = None
    ) -> SelectedMailbox:
        """Of what came between the command before and an IDLE, pymap says nothing until something
        else comes. Providers tell it at once, and so does this.
        """
        if selected.mod_sequence != self._mod_sequences.highest:
            wait_on = None
        return await super().update_selected(selected, wait_on=wait_on)

    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Message:
        message = await super().append(append_msg, recent=recent)
        self.changed()
        return message

    async def update(
        self, uid: int, cached_msg: CachedMessage, flag_set: frozenset[Flag], mode: FlagOp
    ) -> Message:
        message = await super().update(uid, cached_msg, flag_set, mode)
        self.changed()
        return message


class _Folders(MailboxSet):
    """A person's folders; LIST marks the special ones (RFC 6154)."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self._inbox = self._new()

    async def add_mailbox(self, name: str) -> ObjectId:
        if name in self._set:
            raise ValueError(name)  # what pymap answers with NO
        box = self._set[name] = self._new()
        return box.mailbox_id

    async def list_mailboxes(self) -> ListTree:
        return _Marked(self.delimiter).update("INBOX", *self._set)

    def _new(self) -> _Box:
        box = _Box(self._content_cache, self._thread_cache)
        box.changed = self._changed
        return box


class _Marked(ListTree):
    def list(self) -> Iterable[ListEntry]:
        for entry in super().list():
            yield _MarkedEntry(entry.name, entry.exists, entry.marked, entry.has_children)


class _MarkedEntry(ListEntry):
    @property
    def attributes(self) -> Sequence[bytes]:
        special = SPECIAL_USE.get(self.name)
        return [*super().attributes, *([special] if special else [])]
