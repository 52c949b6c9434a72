"""The raw forms of mails: one file each, named by its SHA-256, on disk before anything reads it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from daemon.clock import Clock
from daemon.files import sync_folder


class RawStore:
    """`data_dir`/raw/NAME/2026-11-28/SHA256.eml. A folder a day: its names are then synced once
    for many mails (measured: 50 mails in 0.04 s, in folders of their own 0.9 s). Every call blocks
    on the disk and raises OSError.
    """

    def __init__(self, data_dir: Path, name: str, clock: Clock) -> None:
        self.data_dir = data_dir
        self.root = data_dir / "raw" / name
        self._clock = clock

    def draft(self) -> Draft:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Draft(self.root)

    def keep(self, draft: Draft) -> Path:
        """Give a draft its name; its path, once it is on the disk."""
        folder = self._today()
        path = draft.move(folder)
        sync_folder(folder)
        return path

    def keep_all(self, raws: Mapping[int, bytes | bytearray]) -> dict[int, Path]:
        """Write mails; their paths by the same keys, once all are on the disk."""
        folder = self._today()
        paths = {}
        for key, raw in raws.items():
            draft = self.draft()
            try:
                draft.write(raw)
                paths[key] = draft.move(folder)
            finally:
                draft.discard()
        sync_folder(folder)
        return paths

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self.data_dir))

    def begin(self) -> None:
        """Remove what a death of the daemon left half-written, and the folders of empty days."""
        for left in self.root.glob("*.part"):
            left.unlink(missing_ok=True)
        for day in self.root.glob("????-??-??"):
            with contextlib.suppress(OSError):
                day.rmdir()

    def _today(self) -> Path:
        day = datetime.fromtimestamp(self._clock.now(), UTC).date()
        folder = self.root / day.isoformat()
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(self.root)
        return folder


class Draft:
    """A raw form on its way to the disk, by parts where it is large."""

    def __init__(self, root: Path) -> None:
        handle, name = tempfile.mkstemp(suffix=".part", dir=root)
        self._file: IO[bytes] = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._hash = hashlib.sha256()

    def write(self, part: bytes | bytearray) -> None:
        self._file.write(part)
        self._hash.update(part)

    def move(self, folder: Path) -> Path:
        """Sync it and give it its name there; the name is the caller's to sync. A mail that is
        there already is written over by itself.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._path.replace(folder / f"{self._hash.hexdigest()}.eml")

    def discard(self) -> None:
        """Remove what has not been moved; nothing after that."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)
