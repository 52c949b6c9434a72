from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from tests.ledgers import IMPLEMENTATIONS, Implementation, Stage


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda implementation: implementation.name)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """A new ledger of each implementation, on a clock that the test turns."""
    implementation: Implementation = request.param
    clock = ManualClock()
    stage = Stage(implementation, tmp_path, await implementation.open(tmp_path, clock), clock)
    yield stage
    await stage.ledger.close()
