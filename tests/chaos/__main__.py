"""`python -m tests.chaos --kills N --messages N --seed S`: kill -9 under load, and what it broke.

Prints a table; exit 0 only where the checker found nothing, and as many kills as were asked for
were made. The directory that it names holds the journals and the ledger, for whoever looks into it.

`python -m tests.chaos --mutants` runs daemons with one rule broken each (all, or those named), and
exits 0 only where the checker caught every one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.hunt import hunt
from tests.chaos.mails import available
from tests.chaos.mutants import MUTANTS
from tests.chaos.plan import Size, make
from tests.chaos.report import show
from tests.chaos.run import run

MAIL = 5  # of sixteen conversations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=float, default=6.0, help="mean seconds between kills")
    parser.add_argument("--mail", action=argparse.BooleanOptionalAction, default=available())
    parser.add_argument("--directory", type=Path, help="where to keep everything; else a new one")
    parser.add_argument("--mutants", nargs="*", choices=tuple(MUTANTS), metavar="NAME")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has started, too
    if given.mutants is not None:
        return asyncio.run(hunt(given.mutants or tuple(MUTANTS), given.seed))
    directory = given.directory or Path(tempfile.mkdtemp(prefix="postroom-chaos-")) / "run"
    size = Size(given.kills, given.messages, given.life, mail=MAIL if given.mail else 0)
    plan = make(size, given.seed)
    outcome = asyncio.run(run(plan, size, directory, tell=lambda text: print(text, flush=True)))
    show(outcome, size, given.seed)
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
