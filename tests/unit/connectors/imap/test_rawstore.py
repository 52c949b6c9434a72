from __future__ import annotations

import hashlib
from pathlib import Path

from connectors.imap.rawstore import RawStore
from daemon.clock import ManualClock

NOON = 1_795_867_200.0  # 2026-11-28
RAW = b"Subject: s\r\n\r\nx"


def test_a_raw_form_is_named_by_its_hash_and_told_relative_to_the_data_directory(
    tmp_path: Path,
) -> None:
    store = RawStore(tmp_path, "support", ManualClock(NOON))
    path = store.keep_all({5: RAW})[5]
    digest = hashlib.sha256(RAW).hexdigest()
    assert store.relative(path) == f"raw/support/2026-11-28/{digest}.eml"
    assert path.read_bytes() == RAW
    assert path.stat().st_mode & 0o077 == 0


def test_the_same_mail_twice_is_one_file(tmp_path: Path) -> None:
    store = RawStore(tmp_path, "support", ManualClock(NOON))
    first, second = store.keep_all({1: RAW, 2: bytearray(RAW)}).values()
    assert first == second
    assert len(list(tmp_path.rglob("*.eml"))) == 1


def test_a_mail_that_comes_by_parts_is_whole(tmp_path: Path) -> None:
    store = RawStore(tmp_path, "support", ManualClock(NOON))
    draft = store.draft()
    draft.write(RAW[:5])
    draft.write(RAW[5:])
    path = store.keep(draft)
    draft.discard()
    assert path.read_bytes() == RAW
    assert path.stem == hashlib.sha256(RAW).hexdigest()


def test_what_was_left_half_written_is_removed_at_the_start(tmp_path: Path) -> None:
    store = RawStore(tmp_path, "support", ManualClock(NOON))
    store.begin()  # there is nothing yet
    left = store.draft()
    left.write(RAW)
    kept = store.keep_all({1: b"other"})[1]
    (store.root / "2026-11-27").mkdir()  # all its mails have been let go
    store.begin()
    assert not (store.root / "2026-11-27").exists()
    assert list(store.root.glob("*.part")) == []
    assert kept.exists()
    left.discard()


def test_a_discarded_draft_leaves_nothing(tmp_path: Path) -> None:
    draft = RawStore(tmp_path, "support", ManualClock(NOON)).draft()
    draft.write(RAW)
    draft.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
