"""One IMAP connection: our commands over the hardened protocol, each with a time limit.

Any error or time-out ends the connection for good, as a dead command stays in the library's
tables (measured); the next one starts from nothing. A connection belongs to one task at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aioimaplib import aioimaplib as lib

from connectors.imap.config import ImapServer
from connectors.imap.fetched import Chunk, Fetched, read_fetches
from connectors.imap.protocol import Garbled, HardenedProtocol, Lost
from daemon.errors import AuthenticationFailed, PostroomError, Unavailable

_CODE = re.compile(rb"\[([A-Z-]+)(?: ([^\]]*))?\]")
# RFC 5530: these refusals of a login pass by themselves.
_PASSING = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}
_LIST = re.compile(rb'\(([^)]*)\) (NIL|"(?:[^"\\]|\\.)*") (?:"((?:[^"\\]|\\.)*)"|(\S+))')


class ConnectionLost(Unavailable):
    """The IMAP connection broke, timed out or spoke nonsense."""


class Refused(PostroomError):
    """The server answered NO or BAD; the connection is still good."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each kind of command may take, in seconds (mail reference, section 4)."""

    connect: float = 15.0
    login: float = 20.0  # servers delay a refusal, Dovecot by up to 15 s
    command: float = 25.0
    fetch: float = 60.0  # without a byte
    idle: float = 10.0  # for IDLE to be acknowledged, and DONE to be answered


@dataclass(frozen=True, slots=True)
class Selected:
    """What SELECT told of a folder. `keywords` says whether new keywords may be stored."""

    uidvalidity: int
    uidnext: int | None
    keywords: bool


@dataclass(frozen=True, slots=True)
class FolderName:
    r"""A folder of the mailbox: attributes (RFC 6154: "\drafts", ...) are in lower case."""

    name: str
    attributes: frozenset[str]
    delimiter: str


class ImapClient:
    """Made by `connecting.connect`. Raises ConnectionLost from every method, Refused where the
    server says no; after ConnectionLost, or a cancelled call, it is closed.
    """

    def __init__(self, protocol: HardenedProtocol, limits: Limits) -> None:
        self._protocol = protocol
        self._limits = limits
        self._lock = asyncio.Lock()
        self._idle: asyncio.Future[object] | None = None
        self.folder = ""  # the one that is selected

    @property
    def can_idle(self) -> bool:
        return self.has("IDLE")

    @property
    def tls(self) -> str | None:
        """The version of TLS that is spoken."""
        spoken = self._protocol.transport and self._protocol.transport.get_extra_info("ssl_object")
        return spoken.version() if spoken else None

    def has(self, capability: str) -> bool:
        return capability in self._protocol.capabilities

    def abort(self) -> None:
        """Hang up at once, without a word: a suspect connection may never answer."""
        self._protocol.fail(None)
        if self._protocol.transport is not None:
            self._protocol.transport.abort()

    async def close(self) -> None:
        """Say goodbye, for two seconds at most, and hang up. Never raises."""
        with contextlib.suppress(Unavailable, Refused):
            await self._run(self._command("LOGOUT"), 2.0)
        self.abort()

    async def login(self, server: ImapServer) -> None:
        """Raises AuthenticationFailed where the server refuses user or password for good."""
        arguments = (lib.quoted(server.user), lib.quoted(server.password.reveal()))
        try:
            await self._run(self._command("LOGIN", *arguments), self._limits.login)
        except Refused as refused:
            text = str(refused)
            code = _CODE.search(text.encode())
            if (code and code[1].decode() in _PASSING) or "too many" in text.lower():
                raise ConnectionLost(f"{server.host} takes no login now: {text}") from refused
            raise AuthenticationFailed(
                f"{server.host} refused the user or the password: {text}"
            ) from refused
        self._protocol.state = lib.AUTH
        await self.read_capabilities()  # they may have grown: stock believes the old ones

    async def read_capabilities(self) -> None:
        lines = await self._run(self._command("CAPABILITY"), self._limits.command)
        words = b" ".join(bytes(line) for line in lines[:-1]).decode("ascii", "replace")
        self._protocol.capabilities = set(words.upper().split())

    async def starttls(self, context: ssl.SSLContext, host: str) -> None:
        """RFC 3501 6.2.1. The protocol hangs up on bytes that come before the handshake. Raises
        ssl.SSLError.
        """
        protocol = self._protocol
        await self._run(self._command("STARTTLS"), self._limits.connect)
        with self._ending():
            if protocol.state == lib.LOGOUT:
                raise Lost("the server spoke before the TLS handshake")
            async with asyncio.timeout(self._limits.connect):
                protocol.transport = await protocol.loop.start_tls(
                    protocol.transport, protocol, context, server_hostname=host
                )
        protocol.awaits_tls = False
        protocol.capabilities = set()  # what was said in clear does not count
        await self.read_capabilities()

    async def select(self, folder: str, *, read_only: bool = False) -> Selected:
        r"""Enter a folder. `read_only` leaves its \Recent flags alone."""
        name = "EXAMINE" if read_only else "SELECT"
        self.folder = ""
        lines = await self._run(self._command(name, lib.quoted(folder)), self._limits.command)
        self._protocol.state = lib.SELECTED
        codes = {
            match[1]: match[2] or b"" for line in lines for match in _CODE.finditer(bytes(line))
        }
        uidvalidity, uidnext = codes.get(b"UIDVALIDITY", b""), codes.get(b"UIDNEXT", b"")
        if not uidvalidity.isdigit():
            raise Refused(f"{folder} has no UIDVALIDITY")  # RFC 3501 2.3.1.1: it must have one
        self.folder = folder
        return Selected(
            int(uidvalidity),
            int(uidnext) if uidnext.isdigit() else None,
            rb"\*" in codes.get(b"PERMANENTFLAGS", b""),
        )

    async def search(self, *criteria: str) -> list[int]:
        """UIDs, ascending. Never with a charset: Exchange refuses one."""
        command = self._command("SEARCH", *criteria, prefix="UID")
        lines = await self._run(command, self._limits.command)
        return sorted({int(word) for line in lines[:-1] for word in line.split() if word.isdigit()})

    async def fetch(self, uids: Sequence[int], items: str) -> dict[int, Fetched]:
        """By uid; a mail that is gone is not among them (the server says OK, measured)."""
        uid_set = ",".join(map(str, uids))
        command = self._command("FETCH", uid_set, items, prefix="UID", timeout=self._limits.fetch)
        return read_fetches((await self._run(command, None))[:-1])

    async def add_flag(self, uids: Sequence[int], flag: str) -> None:
        r"""A keyword, or one of the system's own (RFC 3501 2.3.2: "\Answered")."""
        command = self._command(
            "STORE",
            ",".join(map(str, uids)),
            "+FLAGS.SILENT",
            f"({flag})",
            prefix="UID",
            untagged_resp_name="FETCH",
        )
        await self._run(command, self._limits.command)

    async def append(self, folder: str, mail: bytes, flags: str) -> None:
        self._protocol.literal_data = mail
        command = self._command(
            "APPEND", lib.quoted(folder), flags, f"{{{len(mail)}}}", timeout=self._limits.fetch
        )
        await self._run(command, None)

    async def folders(self) -> list[FolderName]:
        """Every folder. Names are as the server has them (modified UTF-7): use them as they are."""
        arguments = ['""', '"*"']
        if self.has("SPECIAL-USE") and self.has("LIST-EXTENDED"):
            arguments.append("RETURN (SPECIAL-USE)")  # else some servers keep it to themselves
        lines = await self._run(self._command("LIST", *arguments), self._limits.command)
        return [
            FolderName(
                name=_unquoted(match[3]) if match[3] is not None else match[4].decode("latin-1"),
                attributes=frozenset(match[1].decode("ascii", "replace").lower().split()),
                delimiter="" if match[2] == b"NIL" else _unquoted(match[2][1:-1]),
            )
            for match in (_LIST.match(bytes(line)) for line in lines[:-1])
            if match is not None
        ]

    async def create(self, folder: str) -> None:
        """Make a folder, and subscribe to it so that people's programs show it."""
        await self._run(self._command("CREATE", lib.quoted(folder)), self._limits.command)
        with contextlib.suppress(Refused):
            await self._run(self._command("SUBSCRIBE", lib.quoted(folder)), self._limits.command)

    async def noop(self) -> None:
        """A probe: answered, or ConnectionLost within the limit."""
        await self._run(self._command("NOOP"), self._limits.idle)

    async def idle(self, seconds: float, pushed: Callable[[], None]) -> None:
        """Stay in IDLE for so long; `pushed` is called for each piece of news, at once."""
        protocol = self._protocol
        with self._ending():
            async with asyncio.timeout(self._limits.idle):
                await self._begin_idle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while await protocol.idle_queue.get() != lib.STOP_WAIT_SERVER_PUSH:
                        pushed()
            assert self._idle is not None  # noqa: S101 - _begin_idle made it
            async with asyncio.timeout(self._limits.idle):
                if not self._idle.done():
                    protocol.send("DONE")
                await self._idle

    async def _begin_idle(self) -> None:
        protocol = self._protocol
        while not protocol.idle_queue.empty():
            protocol.idle_queue.get_nowait()
        protocol._idle_event.clear()  # noqa: SLF001 - the library's, and it forgets to
        command = lib.IdleCommand(protocol.new_tag(), protocol.idle_queue, loop=protocol.loop)
        self._idle = asyncio.ensure_future(protocol.execute(command))
        self._idle.add_done_callback(lambda done: done.cancelled() or done.exception())
        acknowledged = asyncio.ensure_future(protocol.wait_for_idle_response())
        try:
            await asyncio.wait({self._idle, acknowledged}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            acknowledged.cancel()
        if self._idle.done():
            response = await self._idle
            raise Refused(f"IDLE: {getattr(response, 'result', response)}")

    def _command(
        self,
        name: str,
        *arguments: str,
        prefix: str = "",
        untagged_resp_name: str | None = None,
        timeout: float | None = None,  # the library's own timer, reset by each chunk
    ) -> lib.Command:
        return lib.Command(
            name,
            self._protocol.new_tag(),
            *arguments,
            prefix=prefix,
            untagged_resp_name=untagged_resp_name,
            loop=self._protocol.loop,
            timeout=timeout,
        )

    async def _run(self, command: lib.Command, seconds: float | None) -> list[Chunk]:
        """The response's lines, its tagged text last. NO and BAD become Refused here only."""
        async with self._lock:
            with self._ending():
                async with asyncio.timeout(seconds):
                    response = await self._protocol.execute(command)
        lines: list[Chunk] = list(response.lines)
        if response.result != "OK":
            said = bytes(lines[-1]).decode("utf-8", "replace")[:200] if lines else ""
            raise Refused(f"{command.name}: {response.result} {said}")
        return lines

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Whatever goes wrong within ends the connection; our word for it comes out."""
        try:
            yield
        except Refused:
            raise
        except ssl.SSLError:  # of STARTTLS alone: `connect` says what it means
            self.abort()
            raise
        except (lib.AioImapException, OSError, TimeoutError) as error:
            self.abort()
            # Not from the error: a CommandTimeout's text is the whole command, a password too.
            told = str(error) if isinstance(error, Lost | Garbled) else type(error).__name__
            raise ConnectionLost(told) from None
        except BaseException:
            self.abort()
            raise


def _unquoted(text: bytes) -> str:
    return re.sub(rb"\\(.)", rb"\1", text).decode("latin-1")
