"""What holds for every test: nothing of the environment's Claude or Anthropic settings is seen, and
no test is against the clock.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.missing", "tests.dovecot"]

AMBIENT = ("ANTHROPIC_", "CLAUDE")

# Its clocks (0.2 s for an example, by default) tell a slow machine from a quick one, and no more.
settings.register_profile("postroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("postroom")


@pytest.fixture(scope="session", autouse=True)
def _no_ambient_settings() -> Iterator[None]:
    """Take every ANTHROPIC_* and CLAUDE* variable out for the session, and put them back."""
    taken = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(AMBIENT)}
    yield
    os.environ.update(taken)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A test that sets logging up ties it to its own captured stdout, which is closed with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
