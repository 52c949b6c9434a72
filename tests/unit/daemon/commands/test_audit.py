from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon import config as configuration
from daemon.anchoring import FILE, Anchoring
from daemon.clock import ManualClock
from daemon.commands.audit import export, verify
from daemon.config import Config
from daemon.errors import PostroomError
from daemon.ledger import open_ledger
from daemon.plugin import nobody
from tests.ledgers import IMPLEMENTATIONS, Stage

TOKENS = {"app_token": {"env": "SLACK_APP_TOKEN"}, "bot_token": {"env": "SLACK_BOT_TOKEN"}}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Of a daemon that has answered one message, anchored its audit, and stopped."""

    async def live() -> None:
        clock = ManualClock()
        ledger = await open_ledger(tmp_path, clock)
        await Stage(IMPLEMENTATIONS[0], tmp_path, ledger, clock).sent()

        async def tell(key: str, text: str, aside: str = "") -> None:
            await nobody(key, text)

        await Anchoring(ledger=ledger, clock=clock, data_dir=tmp_path, tell=tell).anchor()
        await ledger.close()

    asyncio.run(live())
    return configuration.parse(
        {
            "daemon": {"data_dir": str(tmp_path)},
            "connectors": {"slack": {"kind": "slack", **TOKENS}},
        }
    )


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().out


def test_a_whole_audit_is_said_to_be_one(config: Config, said: Said) -> None:
    assert verify(config, [], as_json=False) == 0
    newest = json.loads((config.daemon.data_dir / FILE).read_text())
    anchor = f"{newest['seq']}:{newest['hash']}"
    assert said() == f"the audit is whole; 4 records, the newest {anchor}\n"
    assert verify(config, [anchor], as_json=True) == 0
    assert json.loads(said()) == {"whole": True, "records": 4, "head": newest, "faults": []}


def test_a_tail_that_is_gone_is_missed_by_the_file_beside_the_ledger(
    config: Config, said: Said
) -> None:
    with closing(sqlite3.connect(config.daemon.data_dir / "ledger.db")) as connection:
        connection.execute("drop trigger audit_stays")
        connection.execute("delete from audit where seq = 4")
        connection.execute("update sqlite_sequence set seq = 3 where name = 'audit'")
        connection.commit()
    assert verify(config, [], as_json=False) == 1
    first, last = said().splitlines()
    assert first.startswith("record 4 is not there as it was anchored")
    assert last.startswith("the audit is NOT whole: 1 fault; 3 records")


@pytest.mark.parametrize("text", [None, "nothing of the kind"])
def test_without_its_anchor_nobody_knows_where_it_ended(
    config: Config, said: Said, text: str | None
) -> None:
    file = config.daemon.data_dir / FILE
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert verify(config, [], as_json=False) == 1
    assert FILE in said()


def test_an_anchor_from_a_log_that_is_not_in_it_is_a_fault(config: Config, said: Said) -> None:
    assert verify(config, [f"3:{'00' * 32}"], as_json=True) == 1
    assert json.loads(said())["whole"] is False
    with pytest.raises(PostroomError, match="write SEQ:HASH") as refused:
        verify(config, ["yesterday"], as_json=False)
    assert refused.value.exit_code == 2


def test_whoever_has_the_exported_lines_can_verify_them_alone(config: Config, said: Said) -> None:
    """With nothing of ours: docs/audit.md says how."""
    assert export(config, after=0, with_names=True) == 0
    before = "0" * 64
    lines = said().splitlines()
    for number, line in enumerate(lines, 1):
        record = json.loads(line)
        hash_, _ = record.pop("hash"), record.pop("names")
        assert (record["seq"], record["before"]) == (number, before)
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        before = hashlib.sha256(text.encode()).hexdigest()
        assert before == hash_
    asked = json.loads(lines[1])
    assert asked["names"] == {asked["by"]: "test:ada", asked["conversation"]: "t1"}


def test_names_are_told_on_wish_only_and_a_part_can_be_had(config: Config, said: Said) -> None:
    export(config, after=2, with_names=False)
    lines = said().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [3, 4]
    assert "test:ada" not in "".join(lines)
