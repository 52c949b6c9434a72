"""A short choice of tests/faults, one of each part: the whole of it is `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.mails import available
from tests.faults.scenarios import ALL, play
from tests.faults.trial import Times
from tests.missing import missing

pytestmark = [pytest.mark.e2e, pytest.mark.dovecot, pytest.mark.timeout(240)]

CHOICE = (
    "slack.half_open",
    "mail.killed",
    "model.cut_in_stream",
    "process.killed",
    "machine.ledger_page_broken",
)


@pytest.mark.parametrize("name", CHOICE)
async def test_a_fault_is_noticed_and_healed_and_costs_nothing(name: str, tmp_path: Path) -> None:
    (scenario,) = [each for each in ALL if each.name == name]
    if scenario.mail and not available():
        missing("dovecot")
    times = Times()
    await play(scenario, tmp_path / "run", times)
    assert times.healed is not None
    assert times.unclear == 0
