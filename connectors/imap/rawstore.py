"""The raw forms of mails: one file each, named by its SHA-256, on disk before anything reads it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO


class RawStore:
    """`data_dir`/raw/NAME/ab/abcdef....eml. Every call blocks on the disk and raises OSError."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self.data_dir = data_dir
        self.root = data_dir / "raw" / name

    def draft(self) -> Draft:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Draft(self.root)

    def keep_all(self, raws: Mapping[int, bytes | bytearray]) -> dict[int, Path]:
        """Write mails; their paths by the same keys, once all are on the disk."""
        paths = {}
        for key, raw in raws.items():
            draft = self.draft()
            try:
                draft.write(raw)
                paths[key] = draft.keep()
            finally:
                draft.discard()
        return paths

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self.data_dir))

    def begin(self) -> None:
        """Remove what a death of the daemon left half-written."""
        for left in self.root.glob("*.part"):
            left.unlink(missing_ok=True)


class Draft:
    """A raw form on its way to the disk, by parts where it is large."""

    def __init__(self, root: Path) -> None:
        handle, name = tempfile.mkstemp(suffix=".part", dir=root)
        self._file: IO[bytes] = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._root = root
        self._hash = hashlib.sha256()

    def write(self, part: bytes | bytearray) -> None:
        self._file.write(part)
        self._hash.update(part)

    def keep(self) -> Path:
        """Sync it and give it its name. A mail that is here already is written over by itself."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        digest = self._hash.hexdigest()
        folder = self._root / digest[:2]
        fresh = not folder.exists()
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / f"{digest}.eml"
        self._path.replace(path)
        _sync(folder)
        if fresh:
            _sync(self._root)
        return path

    def discard(self) -> None:
        """Remove what has not been kept. Does nothing after `keep`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
