"""The escape matrix in short: one run of the hostile program at each level that this machine has.

`make escape` prints it whole. The published holes that concern the walls are rows of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from daemon.agents import cli_version
from daemon.isolation.levels import LEVELS
from tests.escape.__main__ import as_here, attacked, not_here
from tests.escape.matrix import HOSTS_MAY_SHUT, KNOWN_OPEN, MUST_WORK, Found, flat, open_in
from tests.missing import unsupported

pytestmark = pytest.mark.cli

CVES = {
    # project hooks and servers run before anybody trusts the project
    "CVE-2025-59536": (
        "run a hook planted in the workspace",
        "start a server planted in the workspace",
    ),
    # a project sets the model's address, and the key goes there
    "CVE-2026-21852": ("send the model's requests elsewhere",),
    # sandboxed code makes the settings file that was missing, whose hooks run outside later
    "CVE-2026-25725": ("run a hook planted in the CLI's settings",),
    # a link leads out of the workspace
    "CVE-2026-39861": ("reach it through a symbolic link", "reach it through a linked directory"),
    # files of the CLI in the shared temporary directory, for everybody to read and to forge
    "CVE-2026-46406": ("write the system's temporary directory", "write to shared memory"),
}


@dataclass(frozen=True, slots=True)
class Run:
    level: str
    found: Found

    @property
    def open(self) -> frozenset[str]:
        return open_in(self.found)


@pytest.fixture(scope="module")
def bare() -> Run:
    """All attacks without walls, once for all tests."""
    return Run("none", attacked(LEVELS["none"]))


@pytest.fixture(scope="module", params=[name for name in LEVELS if name != "none"])
def walled(request: pytest.FixtureRequest) -> Run:
    """All attacks at a level, once for all tests of it."""
    level = as_here(LEVELS[request.param])
    if why := not_here(level):
        unsupported(f"the level {level.name}: {why}")
    return Run(level.name, attacked(level))


def test_every_attack_succeeds_without_walls(bare: Run) -> None:
    """Else a row proves nothing: what some hosts shut for everybody is listed by name."""
    assert flat(bare.found).keys() - bare.open <= HOSTS_MAY_SHUT


def test_nothing_is_open_but_what_is_known_to_be(bare: Run, walled: Run) -> None:
    known = KNOWN_OPEN.get(walled.level, frozenset())
    assert walled.open <= known
    assert known & bare.open <= walled.open, "a gap that is closed leaves the list"


def test_an_agent_can_work(walled: Run) -> None:
    assert set(walled.found[MUST_WORK].values()) == {"open"}


@pytest.mark.parametrize("cve", CVES)
def test_published_hole_stays_shut(walled: Run, cve: str) -> None:
    assert flat(walled.found).keys() >= set(CVES[cve])
    assert not walled.open & set(CVES[cve])


def test_the_cli_is_none_with_a_published_hole() -> None:
    """The last one that is known was in 2.1.127."""
    assert tuple(map(int, cli_version().split("."))) >= (2, 1, 128)
