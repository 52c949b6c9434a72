"""A small file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.files import write_file


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    for content in (b"one", b"two"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facts.json"
    write_file(path, b"one")

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"
