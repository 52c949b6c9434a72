"""A mail as it came from the server, and who makes a message of it: the seam of this folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.imap.parse import Parsed
from daemon.model import Ignored, Message, Unreadable
from daemon.ports import Intake


@dataclass(frozen=True, slots=True)
class Mail:
    """A fetched and parsed mail with what the server said of it.

    `size` is in bytes, `arrived` INTERNALDATE in seconds since the epoch. `raw_path` is where its
    raw form is kept, relative to the data directory. `too_large` is true where only its headers
    and its text part were fetched.
    """

    folder: str
    uidvalidity: int
    uid: int
    flags: frozenset[str]
    size: int
    arrived: float | None
    parsed: Parsed
    raw_path: str
    too_large: bool

    @property
    def outside_id(self) -> str:
        return f"{self.folder}:{self.uidvalidity}:{self.uid}"

    @property
    def alternate_id(self) -> str | None:
        """Message-ID and content: the same mail under another uid. A mail without a Message-ID is
        told apart by when it arrived, as two equal ones may be two mails. None: not readable.
        """
        if self.parsed.broken:
            return None
        name = self.parsed.message_id or f"<{self.arrived or self.outside_id}>"
        return f"{name} {self.parsed.content_hash}"


ReadMail = Callable[[Mail, Intake], Awaitable[Message | Ignored | Unreadable]]
