"""A small IMAP server on loopback that misbehaves on request: for what Dovecot never does.

It keeps one folder and speaks just enough of RFC 3501. A test changes its attributes, or answers
a command itself through `on`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ARRIVED = "28-Nov-2026 10:00:00 +0000"


@dataclass(eq=False)
class Conversation:
    """One client's connection: `send` writes as it is; `hang_up` ends it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tag: str = ""
    idling: bool = False

    def send(self, data: str | bytes) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    def ok(self, text: str = "done") -> None:
        self.send(f"{self.tag} OK {text}\r\n")

    def no(self, text: str) -> None:
        self.send(f"{self.tag} NO {text}\r\n")

    def hang_up(self) -> None:
        self.writer.transport.abort()


Answer = Callable[[Conversation, str], Awaitable[None]]


@dataclass
class ScriptedImap:
    """`mails` are by uid, `arrived` their INTERNALDATE where it matters. `poison` uids end the
    connection when their body is fetched, `vanishing` ones are found and have no facts. `heard` is
    every command line, without its tag. `on` maps the start of a command line to what answers it
    instead of us.
    """

    mails: dict[int, bytes] = field(default_factory=dict)
    arrived: dict[int, str] = field(default_factory=dict)
    uidvalidity: int = 7
    capabilities: str = "IMAP4rev1 IDLE"
    greeting: str = "* OK ready\r\n"
    keywords: bool = True
    poison: set[int] = field(default_factory=set)
    vanishing: set[int] = field(default_factory=set)
    on: dict[str, Answer] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    port: int = 0
    _clients: set[Conversation] = field(default_factory=set)
    _heard_more: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[ScriptedImap]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            await server.wait_closed()

    def hang_up(self) -> None:
        """End every connection."""
        for client in self._clients:
            client.hang_up()

    def put(self, raw: bytes) -> int:
        """A mail arrives; those who idle are told."""
        uid = max(self.mails, default=0) + 1
        self.mails[uid] = raw
        for client in self._clients:
            if client.idling:
                client.send(f"* {len(self.mails)} EXISTS\r\n")
        return uid

    async def until_heard(self, start: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while sum(line.startswith(start) for line in self.heard) < times:
                self._heard_more.clear()
                await self._heard_more.wait()

    def count(self, start: str) -> int:
        return sum(line.startswith(start) for line in self.heard)

    # --- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Conversation(reader, writer)
        self._clients.add(client)
        try:
            client.send(self.greeting)
            while line := (await reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
                client.tag, _, command = line.partition(" ")
                self.heard.append(command)
                self._heard_more.set()
                await self._answer(client, command)
        except ConnectionError:
            pass
        finally:
            self._clients.discard(client)
            writer.close()

    async def _answer(self, client: Conversation, command: str) -> None:
        for start, answer in self.on.items():
            if command.startswith(start):
                await answer(client, command)
                return
        match command.partition(" ")[0]:
            case "CAPABILITY":
                client.send(f"* CAPABILITY {self.capabilities}\r\n")
            case "SELECT" | "EXAMINE":
                self._select(client)
            case "UID" if command.startswith("UID SEARCH"):
                found = " ".join(map(str, self._search(command)))
                client.send(f"* SEARCH {found}".rstrip() + "\r\n")
            case "UID" if command.startswith("UID FETCH"):
                if not self._fetch(client, command):
                    return
            case "IDLE":
                await self._idle(client)
                return
        client.ok()

    def _select(self, client: Conversation) -> None:
        flags = r"\Seen \*" if self.keywords else r"\Seen"
        uidnext = max(self.mails, default=0) + 1
        client.send(
            f"* {len(self.mails)} EXISTS\r\n* OK [PERMANENTFLAGS ({flags})] those\r\n"
            f"* OK [UIDVALIDITY {self.uidvalidity}] valid\r\n* OK [UIDNEXT {uidnext}] next\r\n"
        )

    def _search(self, command: str) -> list[int]:
        uids = sorted(self.mails)
        if asked := re.search(r" UID (\d+|\*)(:\*)?$", command):
            if asked[1] == "*":
                return uids[-1:]
            first = int(asked[1])
            if asked[2] is None:
                return [uid for uid in uids if uid == first]
            return [uid for uid in uids if uid >= first] or uids[-1:]  # RFC 3501: n:* has the last
        return uids

    def _fetch(self, client: Conversation, command: str) -> bool:
        asked = re.match(r"UID FETCH (\S+) \(UID (.*)\)$", command)
        assert asked is not None, command
        for uid in map(int, asked[1].split(",")):
            if uid not in self.mails or uid in self.vanishing:
                continue
            if uid in self.poison and "BODY" in asked[2]:
                client.hang_up()
                return False
            self._send_fetched(client, uid, asked[2])
        return True

    def _send_fetched(self, client: Conversation, uid: int, items: str) -> None:
        raw = self.mails[uid]
        number = sorted(self.mails).index(uid) + 1
        if "BODY" not in items:
            date = self.arrived.get(uid, ARRIVED)
            facts = f'FLAGS (\\Recent) INTERNALDATE "{date}" RFC822.SIZE {len(raw)}'
            client.send(f"* {number} FETCH (UID {uid} {facts})\r\n")
            return
        section, body = "BODY[]", raw
        if "[HEADER]" in items:
            section, body = "BODY[HEADER]", raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        elif part := re.search(r"<(\d+)\.(\d+)>", items):
            start, size = int(part[1]), int(part[2])
            section, body = f"BODY[]<{start}>", raw[start : start + size]
        client.send(f"* {number} FETCH (UID {uid} {section} {{{len(body)}}}\r\n")
        client.send(body)
        client.send(")\r\n")

    async def _idle(self, client: Conversation) -> None:
        client.send("+ idling\r\n")
        client.idling = True
        done = (await client.reader.readline()).strip()
        client.idling = False
        if done == b"DONE":
            client.ok()
