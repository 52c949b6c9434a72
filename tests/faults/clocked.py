"""`python -m tests.faults.clocked FILE run -c ...`: the daemon with a clock that can be turned.

FILE holds the seconds by which the system's time is ahead of the true one.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

from daemon import app
from daemon.cli import main
from daemon.clock import SystemClock


def turn_by(file: Path) -> None:
    """What the daemon takes for the system's time."""

    def system() -> float:
        return time.time() + float(file.read_text() or 0)

    vars(app)["SystemClock"] = partial(SystemClock, system)


if __name__ == "__main__":
    turn_by(Path(sys.argv.pop(1)))
    main()
