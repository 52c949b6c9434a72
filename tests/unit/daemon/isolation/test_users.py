"""Which number is whose, as far as it can be told without the rights to change users."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.errors import WallError
from daemon.isolation.users import NEEDED, NUMBERS, PASSAGE, PROOF_NUMBERS, Users, _lacking, _mapped


def test_each_workspace_gets_a_number_and_keeps_it(tmp_path: Path) -> None:
    users = Users([])
    first, new = users.assign(tmp_path / "a")
    assert first in NUMBERS
    assert new
    second, _ = users.assign(tmp_path / "b")
    assert second != first
    assert users.assign(tmp_path / "a") == (first, False)


def test_number_of_one_that_is_gone_is_not_given_to_the_next(tmp_path: Path) -> None:
    users = Users([])
    gone, _ = users.assign(tmp_path / "a")
    users.forget(tmp_path / "a")
    assert users.assign(tmp_path / "b")[0] != gone
    assert users.assign(tmp_path / "a")[1], "it is handed over anew"


def test_numbers_come_again_when_all_were_given(tmp_path: Path) -> None:
    users = Users([], range(30_001, 30_004))
    given = [users.assign(tmp_path / name)[0] for name in "abc"]
    assert given == [30_001, 30_002, 30_003]
    with pytest.raises(WallError, match="all 3 users"):
        users.assign(tmp_path / "one too many")
    users.forget(tmp_path / "b")
    assert users.assign(tmp_path / "again") == (30_002, True)


def test_directory_of_the_daemons_has_no_user_yet(tmp_path: Path) -> None:
    """As everything here is this test's own: a restored backup looks like this."""
    assert Users([tmp_path]).assign(tmp_path)[1]


def test_proof_and_passage_have_numbers_that_no_conversation_gets() -> None:
    assert not {PASSAGE, *PROOF_NUMBERS} & set(NUMBERS)
    assert max(PROOF_NUMBERS) < 60_000


def test_what_is_lacking_is_named() -> None:
    everything = sum(1 << bit for bit in NEEDED.values())
    assert _lacking(everything) == []
    assert _lacking(everything & ~(1 << NEEDED["SETUID"])) == ["SETUID"]
    assert _lacking(0) == [*NEEDED]


@pytest.mark.parametrize(
    ("uid_map", "holds"),
    [
        ("         0          0 4294967295\n", True),
        ("         0     100000      65536\n", True),
        ("         0       1000          1\n", False),
        ("         0       1000          1\n         1     100000      59000\n", False),
    ],
    ids=["the machine", "a container", "one user", "too few"],
)
def test_container_must_have_the_numbers(uid_map: str, holds: bool) -> None:
    assert _mapped(uid_map) == holds
