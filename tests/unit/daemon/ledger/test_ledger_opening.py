"""Opening a ledger: what is refused, and what an older one becomes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.errors import ConfigError, DataDirBusy, LedgerError
from daemon.ledger import migrations, open_ledger, opening, read_only
from daemon.ledger.lock import file_system
from daemon.ledger.opening import connect_for_writing
from daemon.model import ConversationId

PAGE = 4096  # bytes: SQLite's default


async def test_a_new_ledger_is_for_its_owner_alone(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path / "new" / "data", ManualClock())
    await ledger.probe()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new/data").iterdir()}
    await ledger.close()
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "lock"}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700


async def test_a_ledger_with_a_broken_page_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    await (await open_ledger(tmp_path, ManualClock())).close()
    file = tmp_path / "ledger.db"
    sound = file.read_bytes()
    for page in range(1, len(sound) // PAGE):
        broken = sound[: page * PAGE] + b"\xa5" * 512 + sound[page * PAGE + 512 :]
        file.write_bytes(broken)
        with pytest.raises(LedgerError, match="restore a backup"):
            await open_ledger(tmp_path, ManualClock())
        assert file.read_bytes() == broken
    file.write_bytes(sound)
    await (await open_ledger(tmp_path, ManualClock())).close()


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    """No kill of a process shows the difference, only a power cut does."""
    with closing(connect_for_writing(tmp_path / "x.db")) as connection:
        assert tuple(connection.execute("pragma synchronous").fetchone()) == (2,)
        assert tuple(connection.execute("pragma journal_mode").fetchone()) == ("wal",)


async def test_a_second_owner_is_refused_by_the_first_ones_pid(tmp_path: Path) -> None:
    first = await open_ledger(tmp_path, ManualClock())
    try:
        with pytest.raises(DataDirBusy, match=r"process \d+.*stop it first"):
            await open_ledger(tmp_path, ManualClock())
    finally:
        await first.close()
    await (await open_ledger(tmp_path, ManualClock())).close()


@pytest.mark.parametrize(
    "content", [b"not a database, and long enough to be seen as none" * 100, b"\x00" * 8192]
)
async def test_what_is_no_ledger_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(content)
    with pytest.raises(LedgerError, match=r"not a usable ledger.*restore a backup"):
        await open_ledger(tmp_path, ManualClock())
    assert file.read_bytes() == content
    file.unlink()
    await (await open_ledger(tmp_path, ManualClock())).close()


async def test_a_ledger_that_another_program_holds_is_not_said_to_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_ledger(tmp_path, ManualClock())).close()
    monkeypatch.setattr(opening, "BUSY_MS", 50)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(LedgerError, match="another program has it open"):
            await open_ledger(tmp_path, ManualClock())
        other.execute("rollback")
    await (await open_ledger(tmp_path, ManualClock())).close()


async def test_a_data_directory_that_is_a_file_is_a_fault_of_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(ConfigError, match=r"daemon\.data_dir"):
        await open_ledger(tmp_path / "data", ManualClock())


async def test_a_ledger_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    await (await open_ledger(tmp_path, ManualClock())).close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("pragma user_version = 999")
    with pytest.raises(LedgerError, match="999"):
        await open_ledger(tmp_path, ManualClock())
    with pytest.raises(LedgerError, match="999"):
        await read_only(tmp_path)


async def test_a_ledger_can_be_read_while_and_after_its_daemon_runs(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path, ManualClock())
    for _ in range(2):
        reading = await read_only(tmp_path)
        assert await reading.conversations(5) == ()
        assert await reading.conversation(ConversationId("t1")) is None
        await reading.close()
        await ledger.close()
    with pytest.raises(LedgerError):
        await read_only(tmp_path / "nowhere")


# --- migrations -----------------------------------------------------------------------------------


def test_versions_are_numbered_from_one_without_a_gap() -> None:
    assert [version for version, _ in migrations.steps()] == list(range(1, migrations.latest() + 1))


def test_a_step_that_fails_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        migrations.migrate(connection)
        steps = (
            *migrations.steps(),
            (migrations.latest() + 1, "create table extra (a); insert into nowhere values (1);"),
        )
        before = migrations.latest()
        monkeypatch.setattr(migrations, "steps", lambda: steps)
        with pytest.raises(LedgerError, match=f"migration {before + 1} .*failed"):
            migrations.migrate(connection)
        assert migrations.version_of(connection) == before
        found = connection.execute("select 1 from sqlite_schema where name = 'extra'").fetchall()
        assert found == []


# --- where it lies --------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:27 / /mnt/with\\040space rw - nfs4 server:/x rw
31 22 0:28 / /srv rw master:1 - nfs server:/y rw
32 31 254:2 / /srv/local rw - xfs /dev/sdb rw
33 32 0:30 / /srv/local rw - cifs //server/z rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/postroom", "ext4"),
        ("/srv/data", "nfs"),
        ("/srvother", "ext4"),
        ("/srv/local/data", "cifs"),
        ("/mnt/with space/data", "nfs4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_deepest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_where_nothing_is_known_of_mounts_nothing_is_said() -> None:
    assert file_system(Path("/data"), "") is None
