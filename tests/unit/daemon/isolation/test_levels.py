"""Which level is taken for which word."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.errors import WallError
from daemon.isolation.levels import LEVELS, available_level, candidates
from daemon.isolation.proof import Check, Proof


def test_auto_tries_the_strongest_first_and_never_none() -> None:
    names = [level.name for level in candidates("auto")]
    assert names[0] == max(LEVELS.values(), key=lambda level: level.strength).name
    assert "none" not in names


def test_level_of_another_version_is_a_wall_error(tmp_path: Path) -> None:
    with pytest.raises(WallError, match=r"isolation\.level: 'gvisor'") as caught:
        available_level("gvisor", tmp_path)
    assert caught.value.exit_code == 78


def test_none_needs_nothing(tmp_path: Path) -> None:
    assert available_level("none", tmp_path) is LEVELS["none"]


def test_check_holds_only_by_the_walls_own_answers() -> None:
    assert Check("read it", "refused", "EACCES").holds
    assert not Check("read it", "refused", "open").holds
    assert not Check("read it", "refused", "ENOENT").holds  # nothing was there to be read
    assert not Check("descriptors", "[0, 1, 2]", "[0, 1, 2, 5]").holds


def test_proof_without_checks_does_not_hold() -> None:
    assert not Proof("landlock", (), 0.1).holds


def test_failed_proof_says_what_does_not_hold() -> None:
    proof = Proof("landlock", (Check("read the ledger", "refused", "open"),), 0.1)
    assert proof.sentence() == "landlock: read the ledger: open, not refused"
