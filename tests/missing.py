"""What could not be tested on this machine: named and counted at the end; with CI=true a failure.

A test that needs a part which is not here calls `missing("dovecot")`, which skips it. What no
set-up can add, as kernel and host decide it, is `unsupported(...)`: named and counted, no failure.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

_MARK, _HOST = "missing: ", "unsupported: "
_seen: dict[str, Counter[str]] = {_MARK: Counter(), _HOST: Counter()}


def missing(part: str) -> NoReturn:
    """Skip the running test for want of a part of this machine."""
    pytest.skip(_MARK + part)


def unsupported(what: str) -> NoReturn:
    """Skip the running test for want of what this machine's kernel or host does not let it have."""
    pytest.skip(_HOST + what)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _, _, why = report.longrepr
        for mark, seen in _seen.items():
            if (part := why.removeprefix("Skipped: ")).startswith(mark):
                seen[part.removeprefix(mark)] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for part, count in sorted((_seen[_MARK] + _seen[_HOST]).items()):
        terminalreporter.write_line(f"not tested here: {part} ({count} tests)", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _seen[_MARK] and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
