"""Anchors the audit: tells its newest record to the log, and keeps it in a file beside the ledger.

A chain shows what was changed within it, not that its end was cut off: for that somebody else has
to know where it ended. The log, once it is shipped away, is out of reach of whoever has the ledger.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog

from daemon.clock import Clock
from daemon.errors import LedgerError, OwnershipLost
from daemon.files import write_file
from daemon.model import DAEMON, Audited, AuditHead
from daemon.ports import Ledger, Tell

log = structlog.get_logger()

FILE = "audit.anchor"
EVERY_SECONDS = 60.0


class Anchoring:
    """`tell` informs operators where what was anchored is not there any more."""

    def __init__(self, *, ledger: Ledger, clock: Clock, data_dir: Path, tell: Tell) -> None:
        self._ledger = ledger
        self._clock = clock
        self._path = data_dir / FILE
        self._tell = tell
        self._anchored: AuditHead | None = None

    async def run(self) -> None:
        """Until cancelled. Raises OwnershipLost."""
        while True:
            await self.anchor()
            await self._clock.sleep(EVERY_SECONDS)

    async def anchor(self) -> None:
        """Note the newest record, if there is one since the last time. A fault of the disk waits
        for the next time. Raises OwnershipLost.
        """
        try:
            if self._anchored is None:
                await self._look()
            head = await self._ledger.audit_head()
            if head is None or head == self._anchored:
                return
            text = json.dumps({"seq": head.seq, "hash": head.hash}) + "\n"
            await asyncio.to_thread(write_file, self._path, text.encode())
        except OwnershipLost:
            raise
        except (LedgerError, OSError):
            log.exception("audit.not_anchored")
            return
        self._anchored = head
        log.info("audit.anchored", seq=head.seq, hash=head.hash)

    async def _look(self) -> None:
        """Before a newer anchor takes its place: is there still what the last daemon anchored?
        Where it is not, that becomes a record itself.
        """
        try:
            anchor = await asyncio.to_thread(read_anchor, self._path.parent)
        except ValueError:
            log.exception("audit.anchor_unreadable")
            return
        if anchor is None or await self._ledger.audit_holds(anchor):
            return
        log.error("audit.broken", seq=anchor.seq, hash=anchor.hash)
        facts = {"seq": anchor.seq, "hash": anchor.hash}
        await self._ledger.audit(Audited("audit.broken", DAEMON, facts=facts))
        await self._tell(
            f"audit/{anchor}",
            f"the audit does not hold its record {anchor.seq} any more, which was anchored: "
            "somebody changed the ledger, or restored another one; see `postroom audit verify`",
        )


def read_anchor(data_dir: Path) -> AuditHead | None:
    """What was anchored last; None: nothing yet. Blocking. Raises ValueError, OSError."""
    try:
        told = json.loads((data_dir / FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(told, dict):
        raise ValueError("not an anchor")  # noqa: TRY004 - as all else that is none
    return parse_anchor(f"{told.get('seq')}:{told.get('hash')}")


def parse_anchor(text: str) -> AuditHead:
    """From "SEQ:HASH". Raises ValueError."""
    seq, _, hash_ = text.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(bytes.fromhex(hash_)) == 32):
        raise ValueError(f"{text!r} is no anchor")
    return AuditHead(int(seq), hash_.lower())
