"""A test-only build of the daemon: the shipped one, with a rule broken or a fuse in it.

    python -P -m tests.chaos.build [--mutant NAME] [--fuse POINT:PASSES] run -c FILE

is `postroom run -c FILE`. No shipped module knows of any of it.
"""

from __future__ import annotations

import argparse
import sys

from daemon.cli import main as daemon

COMMAND = (sys.executable, "-P", "-m", "tests.chaos.build")


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--mutant")
    parser.add_argument("--fuse")
    given, sys.argv[1:] = parser.parse_known_args()
    # They import most of the daemon: one that needs neither is to start as quickly as the shipped.
    if given.mutant:
        from tests.chaos.mutants import MUTANTS  # noqa: PLC0415

        MUTANTS[given.mutant].apply()
    if given.fuse:
        from tests.chaos.points import POINTS, Countdown  # noqa: PLC0415

        point, _, passes = given.fuse.rpartition(":")
        POINTS[point].arm(Countdown(int(passes)))
    daemon()


if __name__ == "__main__":
    main()
