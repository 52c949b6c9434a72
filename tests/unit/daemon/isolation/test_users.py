"""Which number is whose, as far as it can be told without the rights to change users."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import WallError
from daemon.isolation.users import NEEDED, NUMBERS, PASSAGE, PROOF_NUMBERS, Users, _lacking, _mapped

FEW = range(1_000_000 + 10 * os.getpid(), 1_000_003 + 10 * os.getpid())
"""Which no daemon gives, and no other test that runs on this machine meanwhile."""


@pytest.fixture
def users() -> Iterator[Users]:
    users = Users([], FEW)
    yield users
    for name in "abcd":
        users.release(Path(name))


def test_each_workspace_gets_a_number_and_keeps_it(users: Users) -> None:
    given = {users.assign(Path(name)) for name in "abc"}
    assert given == {(number, True) for number in FEW}
    before = users.assign(Path("a"))
    users.release(Path("a"))
    assert users.assign(Path("a")) == before == (before[0], False)


def test_numbers_that_are_all_taken_are_an_error_until_one_is_free(users: Users) -> None:
    given = {name: users.assign(Path(name))[0] for name in "abc"}
    with pytest.raises(WallError, match="all 3 users"):
        users.assign(Path("d"))
    users.forget(Path("b"))
    assert users.assign(Path("d")) == (given["b"], True)


def test_daemons_of_one_machine_never_run_two_things_as_one_user(users: Users) -> None:
    mine = users.assign(Path("a"))[0]
    others = Users([], FEW)
    theirs = {others.assign(Path(name))[0] for name in "bc"}
    assert mine not in theirs
    with pytest.raises(WallError):
        others.assign(Path("d"))
    users.release(Path("a"))
    assert others.assign(Path("d")) == (mine, True)
    for name in "bc":
        others.release(Path(name))
    assert users.assign(Path("a"))[1], "meanwhile it is another's: all is handed over to a new one"
    others.release(Path("d"))


def test_directory_of_the_daemons_has_no_user_yet(tmp_path: Path) -> None:
    """As everything here is this test's own: a restored backup looks like this."""
    users = Users([tmp_path], FEW)
    assert users.assign(tmp_path)[1]
    users.release(tmp_path)


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
