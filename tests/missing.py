"""What could not be tested on this machine: named and counted at the end; with CI=true a failure.

A test that needs a part which is not here calls `missing("dovecot")`, which skips it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

_MARK = "missing: "
_seen: Counter[str] = Counter()


def missing(part: str) -> NoReturn:
    """Skip the running test for want of a part of this machine."""
    pytest.skip(_MARK + part)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _, _, why = report.longrepr
        if (part := why.removeprefix("Skipped: ")).startswith(_MARK):
            _seen[part.removeprefix(_MARK)] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for part, count in sorted(_seen.items()):
        terminalreporter.write_line(f"not tested here: {part} ({count} tests)", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _seen and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
