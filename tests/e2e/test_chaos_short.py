"""The chaos run in short: kill -9 under load, and the independent checker's word on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.hunt import attempt
from tests.chaos.plan import Size
from tests.chaos.planning import make
from tests.chaos.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.cli, pytest.mark.timeout(400)]


async def test_through_random_kills_nothing_is_lost_answered_twice_or_out_of_order(
    tmp_path: Path,
) -> None:
    size = Size(kills=6, messages=46, stops=1, life=3.0, later=4.0)
    outcome = await run(make(size, seed=5), size, tmp_path / "run")
    assert outcome.violations == ()
    assert outcome.record.kills.total() == size.kills
    assert outcome.figures["messages"] == size.messages
    assert outcome.wrong == ()


async def test_the_checker_catches_a_daemon_that_acknowledges_before_it_registers(
    tmp_path: Path,
) -> None:
    outcome = await attempt("ack-first", 5, tmp_path, kills=3, messages=24)
    assert "lost" in {rule for rule, _ in outcome.violations}
