"""aioimaplib's wire protocol, hardened: what its 2.0.3 gets wrong is mended here and only here.

The numbers in brackets are the rows of the table of measured faults in docs/mail.md. It overrides
private methods, so the version is pinned, and tests/unit/connectors/imap/test_imap_protocol.py
repeats the faults against a scripted server.
"""
# ruff: noqa: SLF001 - the library's private state is what is mended here

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import Any

from aioimaplib import aioimaplib as lib

logging.getLogger("aioimaplib").setLevel(logging.WARNING)  # its DEBUG would log message text

# The library's table lacks EXAMINE, and so refuses it [13].
lib.Commands.setdefault("EXAMINE", lib.Cmd("EXAMINE", (lib.AUTH, lib.SELECTED), lib.Exec.is_sync))

MAX_LINE, MAX_LITERAL = 8 << 20, 64 << 20  # bytes; a line is as long as a SEARCH finds uids
_LITERAL = re.compile(rb"\{(\d{1,12})\}$")
# Status lines carry free text: a {n} at their end is no literal.
_STATUS = re.compile(rb"(\*|[A-Z0-9]+) (OK|NO|BAD|BYE|PREAUTH)\b")
_NUMBERED = re.compile(rb"\d+ (FETCH|EXPUNGE)\b")


class Garbled(lib.Error):  # type: ignore[misc]  # the library has no types
    """The server's stream broke a rule or a limit; it cannot be resynchronised."""


class Lost(lib.Abort):  # type: ignore[misc]
    """The connection is gone; its client object must not be used again."""


class HardenedProtocol(lib.IMAP4ClientProtocol):  # type: ignore[misc]
    """One connection's protocol. `greeting` is the server's first line."""

    pending_sync_command: Any

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.greeting: asyncio.Future[bytes] = loop.create_future()
        self.unsolicited: deque[bytes] = deque(maxlen=1000)
        self.buffer = bytearray()
        self._scanned = 0
        self._missing = -1  # bytes of the literal that still come; -1: in a line
        self._literal = bytearray()
        self._owner: Any = None  # the command that owns the unfinished response
        self.awaits_tls = False  # what comes in clear from now on is an attack

    def data_received(self, data: bytes) -> None:
        """Take a chunk apart without recursion [1]: a response is `line {literal line}*`."""
        self.buffer += data
        if self.awaits_tls:
            self._hang_up(Garbled("bytes before the TLS handshake"))
            return
        try:
            while self._take_literal() if self._missing >= 0 else self._take_line():
                pass
            if self.pending_sync_command is not None and self._owner is None:
                self.pending_sync_command.flush()
        except Exception as error:  # noqa: BLE001 - foreign bytes: whatever it is, hang up
            self._hang_up(error)

    def _hang_up(self, error: Exception) -> None:
        self.fail(error)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc)
        super().connection_lost(exc)

    def fail(self, error: BaseException | None) -> None:
        """Wake everybody who waits on this connection; stock wakes nobody [2]."""
        lost = Lost(f"connection lost: {type(error).__name__ if error else 'closed by the peer'}")
        waiting = [self.pending_sync_command, *self.pending_async_commands.values()]
        self.pending_sync_command, self.state = None, lib.LOGOUT
        self.pending_async_commands.clear()
        for command in waiting:
            if command is not None and not command._event.is_set():
                command._exception = lost
                command._timer.cancel()
                command._event.set()
        if not self.greeting.done():
            self.greeting.set_exception(lost)
            self.greeting.exception()  # nobody may be waiting for it: no warning then
        self.idle_queue.put_nowait(lib.STOP_WAIT_SERVER_PUSH)

    def _take_literal(self) -> bool:
        part = self.buffer[: self._missing - len(self._literal)]
        del self.buffer[: len(part)]
        self._literal += part
        self._owner._reset_timer()
        if len(self._literal) < self._missing:
            return False
        self._owner.append_to_resp(self._literal)
        self._missing, self._literal = -1, bytearray()
        return True

    def _take_line(self) -> bool:
        end = self.buffer.find(b"\r\n", self._scanned)
        if end < 0:
            self._scanned = max(0, len(self.buffer) - 1)  # not from the start: that is quadratic
            if len(self.buffer) > MAX_LINE:
                raise Garbled("a response line is too long")
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        self._scanned = 0
        owner = self._owner
        if owner is not None:
            owner.append_to_resp(line)  # goes on with the same response, whatever it looks like [6]
        else:
            owner = self._handle_line(line, None)
        self._expect_literal(line, owner)
        return True

    def _expect_literal(self, line: bytes, owner: Any) -> None:
        status = self._owner is None and _STATUS.match(line)
        size = None if status else _LITERAL.search(line)
        if size is None:
            self._owner = None
            return
        if int(size[1]) > MAX_LITERAL:
            raise Garbled("a literal is too long")
        self._missing = int(size[1])
        self._owner = owner or lib.Command("NIL", "unused", loop=self.loop)

    def _handle_line(self, line: bytes, current_cmd: Any) -> Any:
        if self.state == lib.CONNECTED:  # stock lets a task raise where nobody looks [8]
            self.state = lib.NONAUTH
            if not self.greeting.done():
                self.greeting.set_result(line)
            return None
        return super()._handle_line(line, current_cmd)

    def _untagged_response(self, line: bytes) -> Any:
        text = line.removeprefix(b"* ")  # stock deletes every "* " of the line [5]
        command = self.pending_sync_command
        if command is None:
            numbered = _NUMBERED.match(text)
            name = numbered[1] if numbered else text.partition(b" ")[0]
            command = self.pending_async_commands.get(name.decode("ascii", "replace").upper())
            if command is None:
                self.unsolicited.append(text)  # stock drops these [7]; bounded here
                return None
            text = text if numbered else text.partition(b" ")[2]
        command.append_to_resp(text)
        return command

    def _response_done(self, line: bytes) -> None:
        command = self.pending_sync_command
        super()._response_done(line)
        if command is not None and command.name == "STARTTLS" and command.response.result == "OK":
            self.awaits_tls = True
            if self.buffer:
                raise Garbled("bytes before the TLS handshake")

    def _continuation(self, line: bytes) -> None:
        command = self.pending_sync_command
        if command is not None and command.name == "AUTHENTICATE":
            command.append_to_resp(line)  # the reason of a refusal
            self.transport.write(b"\r\n")  # the empty answer brings the tagged NO [4]
            return
        super()._continuation(line)
