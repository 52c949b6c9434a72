"""`python -m tests.faults [NAME...]`: one fault after the other, and what was seen of it.

A NAME is a part ("slack") or one fault of it ("slack.half_open"); without one all are played, in
about half an hour. Prints a table; exit 0 only where each fault was noticed in its time, healed,
and cost and doubled nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.faults.machine import NotHere
from tests.faults.scenarios import ALL, Scenario, play
from tests.faults.trial import Times

HEAD = f"{'fault':26} {'noticed after':>14}  {'in':14} {'healed after':>13}  unclear"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--directory", type=Path, help="where to keep everything; else a new one")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    given = parser.parse_args()
    wanted = [each for each in ALL if not given.names or {each.name, each.part} & {*given.names}]
    if not wanted:
        parser.error(f"there is none of {', '.join(given.names)}: see --list")
    if given.list:
        for each in wanted:
            print(f"{each.name:26} {each.says}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has started, too
    # The stand-ins' servers would report each connection that a fault cuts.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    root = given.directory or Path(tempfile.mkdtemp(prefix="postroom-faults-"))
    print(f"logs are kept in {root}\n\n{HEAD}", flush=True)
    ended = Counter(_played(each, root) for each in wanted)
    told = ", ".join(f"{number} {word}" for word, number in ended.items())
    print(f"\n{len(wanted)} faults: {told}")
    return 1 if ended["failed"] else 0


def _played(scenario: Scenario, root: Path) -> str:
    """How it ended: "well" (none lost, none twice), "failed", or "not made here"."""
    times = Times()
    try:
        asyncio.run(play(scenario, root / scenario.name, times))
    except NotHere as error:
        print(f"{scenario.name:26} not made here: {error}", flush=True)
        return "not made here"
    except Exception as error:  # noqa: BLE001 - one that fails hides none of the others
        what = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{scenario.name:26} FAILED: {what}; see failure.txt", flush=True)
        (root / scenario.name / "failure.txt").write_text(
            "".join(traceback.format_exception(error))
        )
        return "failed"
    noticed, healed = _seconds(times.noticed), _seconds(times.healed)
    print(
        f"{scenario.name:26} {noticed:>14}  {times.noticed_by:14} {healed:>13}  {times.unclear}",
        flush=True,
    )
    return "well"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
