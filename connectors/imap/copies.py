"""Mails that the SMTP server has taken, until each has its copy in Sent and the mails that it
answers are marked so.

A mail is written down here the moment the server says 250, before its effect is marked as sent:
what a crash leaves in `sending` is then known to have gone out, and its copy is still filed.
Without this only the seconds between 250 and the disk are left in which nobody can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from connectors.imap.client import Refused
from connectors.imap.outbound import Place
from daemon.clock import Clock
from daemon.errors import Unavailable
from daemon.files import write_file
from daemon.model import EffectId

log = structlog.get_logger()

# A server that files copies by itself has done so by then: ours would be the second.
AFTER_SECONDS = 20.0
AGAIN_SECONDS = 60.0
PATIENCE_SECONDS = 2 * 86400.0  # a copy that nobody takes is given up, as a mail would be


@dataclass(frozen=True, slots=True)
class Taken:
    """A mail that was taken, and the mails of the mailbox that it answers."""

    message_id: str
    raw: bytes
    answers: Sequence[Place] = ()


class Files(Protocol):
    """Who acts in the mailbox (filing.py). Both raise Unavailable, a copy also Refused."""

    async def file_copy(self, message_id: str, raw: bytes) -> None: ...

    async def mark_answered(self, mails: Sequence[Place]) -> None: ...


class Copies:
    """One file a mail, named by its effect, in a folder of the data directory."""

    def __init__(
        self,
        folder: Path,
        filing: Files,
        clock: Clock,
        *,
        after: float = AFTER_SECONDS,
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._folder = folder
        self._filing = filing
        self._clock = clock
        self._after, self._again = after, again
        self._more = asyncio.Event()
        self.waiting = 0
        self.trouble = ""

    async def keep(self, effect: EffectId, taken: Taken) -> None:
        """Write a mail down that has just been taken. On the disk when it returns. Raises OSError.

        Runs to its end even when its caller is cancelled.
        """
        await asyncio.shield(asyncio.to_thread(_write, self._path(effect), taken))
        self._more.set()

    async def has(self, effect: EffectId) -> bool:
        return await asyncio.to_thread(self._path(effect).exists)

    async def kept(self) -> tuple[EffectId, ...]:
        listed = await asyncio.to_thread(self._list)
        return tuple(EffectId(path.stem) for path, _ in listed)

    async def forget(self, effect: EffectId) -> None:
        """Without a copy in Sent. Raises OSError."""
        await asyncio.to_thread(self._path(effect).unlink, missing_ok=True)

    async def run(self) -> None:
        """File the copies, until cancelled."""
        while True:
            self._more.clear()
            kept = await asyncio.to_thread(self._list)
            self.waiting = len(kept)
            if not kept:
                self.trouble = ""
                await self._more.wait()
                continue
            now = self._clock.now()
            # A clock that was set back must not hold a copy for long.
            due = [path for path, kept_at in kept if not 0 <= now - kept_at < self._after]
            if due:
                await self._file(due)
            if self.trouble:
                await self._clock.sleep(self._again)
            elif not due:
                await self._clock.sleep(kept[0][1] + self._after - now)

    async def _file(self, paths: list[Path]) -> None:
        """The mails themselves have gone out; a copy that fails waits, and is looked for again."""
        self.trouble = ""
        for path in paths:
            taken, kept_at = await asyncio.to_thread(_read, path)
            try:
                if taken is not None:
                    await self._filing.mark_answered(taken.answers)
                    await self._filing.file_copy(taken.message_id, taken.raw)
            except Unavailable as error:
                self._failed(path, error)
                return
            except Refused as error:  # this one's fault, perhaps: the others are still tried
                self._failed(path, error)
                if self._clock.now() - kept_at < PATIENCE_SECONDS:
                    continue
                log.error("copy.given_up", effect=path.stem)  # noqa: TRY400 - why is said above
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _failed(self, path: Path, error: Exception) -> None:
        self.trouble = f"no copy in Sent: {error}"
        log.warning("copy.not_filed", effect=path.stem, reason=str(error))

    def _path(self, effect: EffectId) -> Path:
        return self._folder / f"{effect}.sent"

    def _list(self) -> list[tuple[Path, float]]:
        """What waits and since when, the oldest first."""
        kept = []
        for path in self._folder.glob("*.sent"):
            with contextlib.suppress(FileNotFoundError):
                kept.append((path, path.stat().st_mtime))
        return sorted(kept, key=lambda each: each[1])


def _write(path: Path, taken: Taken) -> None:
    head = json.dumps([taken.message_id, taken.answers])
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, head.encode() + b"\n" + taken.raw)


def _read(path: Path) -> tuple[Taken | None, float]:
    """A mail, and when it was kept. None where somebody has taken the file away, or spoilt it."""
    try:
        head, _, raw = path.read_bytes().partition(b"\n")
        message_id, answers = json.loads(head)
        return Taken(message_id, raw, answers), path.stat().st_mtime
    except (OSError, ValueError):
        return None, 0.0
