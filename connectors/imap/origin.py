"""What was in the folder before us: mail that nobody asked us to answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from connectors.imap.fetched import Fetched
from daemon.files import write_file


@dataclass(frozen=True, slots=True)
class Origin:
    """Where our answering begins: what has at most this uid, in this UIDVALIDITY, and arrived
    at most at this time (INTERNALDATE, seconds since the epoch), was there before us.

    The time is the server's own, of the newest mail that it had at the first start. It alone
    outlives a new UIDVALIDITY.
    """

    folder: str
    uidvalidity: int
    uid: int
    arrived: float

    def covers(self, uidvalidity: int, fact: Fetched) -> bool:
        return (
            uidvalidity == self.uidvalidity
            and fact.uid <= self.uid
            and fact.arrived is not None
            and fact.arrived <= self.arrived
        )


def load(path: Path, folder: str) -> Origin | None:
    """None: there is none for this folder, or it cannot be read."""
    try:
        origin = Origin(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return origin if origin.folder == folder else None


def save(path: Path, origin: Origin) -> None:
    """On the disk when it returns. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, json.dumps(asdict(origin)).encode())
