"""What much at once costs: `python -m tests.load`. Prints a table; exit 1 where something is lost.

    flood         10,000 mails come at once, and people chat beside it
    conversations 2,000 threads over 8 processes
    recovery      kill -9 and start with 10,000 messages queued, time to /readyz
    soak          an hour of threads and mails; only where it is named

The first two run the whole flow on a real ledger, with scripted agents that answer at once: what
is measured is the daemon. The others start the installed command, with the real CLI.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from tests.load.flood import conversations, flood
from tests.load.recovery import recovery
from tests.load.report import Report
from tests.load.soak import PAUSE_SECONDS, soak

Part = Callable[[Path, Report, int], Coroutine[Any, Any, None]]
PARTS: dict[str, Part] = {
    "flood": flood,
    "conversations": conversations,
    "recovery": recovery,
}
SIZES = {"flood": 10_000, "conversations": 2_000, "recovery": 10_000, "soak": 60}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*SIZES, []], help="all but soak, where none is named"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the sizes above: 0.1 to try")
    parser.add_argument(
        "--pause", type=float, default=PAUSE_SECONDS, help="of the soak: seconds between messages"
    )
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    report = Report()
    parts: dict[str, Part] = {**PARTS, "soak": partial(soak, pause=told.pause)}
    for name in told.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="postroom-load-") as directory:
            asyncio.run(parts[name](Path(directory), report, int(SIZES[name] * told.share)))
    report.show()
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
