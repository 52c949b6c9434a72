from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.anchoring import FILE, Anchoring, parse_anchor, read_anchor
from daemon.clock import ManualClock
from daemon.ledger import SqliteLedger, open_ledger, read_only
from daemon.model import DAEMON, Audited, AuditHead


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await open_ledger(tmp_path, ManualClock())
    yield ledger
    await ledger.close()


class Watch:
    """An anchoring, and what it told people."""

    def __init__(self, ledger: SqliteLedger, data_dir: Path) -> None:
        self.told: list[str] = []
        self.anchoring = Anchoring(
            ledger=ledger, clock=ManualClock(), data_dir=data_dir, tell=self._tell
        )

    async def _tell(self, key: str, text: str, aside: str = "") -> None:
        self.told.append(text)


async def faults(data_dir: Path) -> tuple[str, ...]:
    reading = await read_only(data_dir)
    try:
        return (await reading.verify_audit(())).faults
    finally:
        await reading.close()


async def test_the_newest_record_is_kept_beside_the_ledger(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    watch = Watch(ledger, tmp_path)
    assert read_anchor(tmp_path) is None
    await watch.anchoring.anchor()
    first = read_anchor(tmp_path)
    assert first == await ledger.audit_head()
    (tmp_path / FILE).unlink()
    await watch.anchoring.anchor()
    assert read_anchor(tmp_path) is None, "nothing is new: nothing is written"
    await ledger.audit(Audited("thing.done", DAEMON))
    await watch.anchoring.anchor()
    newest = read_anchor(tmp_path)
    assert newest is not None
    assert first is not None
    assert newest.seq == first.seq + 1
    assert watch.told == []


async def test_the_next_daemon_goes_on_where_the_last_one_anchored(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    await Watch(ledger, tmp_path).anchoring.anchor()
    await ledger.audit(Audited("thing.done", DAEMON))
    again = Watch(ledger, tmp_path)
    await again.anchoring.anchor()
    assert again.told == []
    assert await faults(tmp_path) == ()


async def test_a_tail_that_was_cut_off_while_nobody_ran_is_told_and_stays_on_record(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    await ledger.audit(Audited("thing.done", DAEMON))
    await Watch(ledger, tmp_path).anchoring.anchor()
    lost = read_anchor(tmp_path)
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as connection:
        connection.execute("drop trigger audit_stays")
        connection.execute("delete from audit where seq > 1")
        connection.execute("update sqlite_sequence set seq = 1 where name = 'audit'")
    following = await open_ledger(tmp_path, ManualClock())
    watch = Watch(following, tmp_path)
    await watch.anchoring.anchor()
    await watch.anchoring.anchor()
    await following.close()
    (told,) = watch.told
    assert "postroom audit verify" in told
    (fault,) = await faults(tmp_path)
    assert str(lost) in fault, "though a newer anchor has taken the place of that one"


async def test_a_disk_that_takes_no_anchor_stops_nothing(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    (tmp_path / FILE).mkdir()
    watch = Watch(ledger, tmp_path)
    await watch.anchoring.anchor()
    (tmp_path / FILE).rmdir()
    await watch.anchoring.anchor()
    assert read_anchor(tmp_path) == await ledger.audit_head()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seq": -1, "hash": "00"}'])
async def test_a_file_that_is_no_anchor_is_replaced(
    ledger: SqliteLedger, tmp_path: Path, text: str
) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r"anchor|JSON|Expecting"):
        read_anchor(tmp_path)
    await Watch(ledger, tmp_path).anchoring.anchor()
    assert read_anchor(tmp_path) == await ledger.audit_head()


def test_an_anchor_is_written_as_the_log_has_it() -> None:
    anchor = AuditHead(7, "ab" * 32)
    assert parse_anchor(str(anchor)) == anchor
    assert str(anchor) == f"7:{'ab' * 32}"
    for text in ("", "7", "7:", "7:xyz", "7:abcd", f"-7:{'ab' * 32}", f"x:{'ab' * 32}"):
        with pytest.raises(ValueError, match=r"anchor|fromhex"):
            parse_anchor(text)
