"""`python -m tests.chaos --kills N --messages N --seed S`: kill -9 under load, and what it broke.

Prints a table; exit 0 only where the checker found nothing, and as many kills as were asked for
were made, over as many messages for the bot. The directory that it names holds the journals and the
ledger, for whoever looks into it.

--points [NAME ...]  kills at each named point (all, or those named), --times each
--mutants [NAME ...] daemons with one rule broken each: exit 0 only where every one was caught
--part N/M           a part of the long form, or --parts M for those that --results lacks
--sum DIR            the summaries of all parts in DIR as one table
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos import parts, sweep
from tests.chaos.build import COMMAND as BUILD
from tests.chaos.hunt import hunt
from tests.chaos.mails import available
from tests.chaos.mutants import MUTANTS
from tests.chaos.plan import Size
from tests.chaos.planning import make
from tests.chaos.points import POINTS
from tests.chaos.report import show
from tests.chaos.run import run
from tests.chaos.stage import COMMAND
from tests.chaos.summary import Summary, summarise

MAIL = 5  # of sixteen conversations
KILLS_A_STOP = 12


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--messages", type=int, default=200, help="for the bot; chatter comes on top"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=float, default=6.0, help="mean seconds between kills")
    parser.add_argument("--mail", action=argparse.BooleanOptionalAction, default=available())
    parser.add_argument("--directory", type=Path, help="where to keep everything; else a new one")
    parser.add_argument("--points", nargs="*", choices=tuple(POINTS), metavar="NAME")
    parser.add_argument("--times", type=int, default=3, help="kills at each point")
    parser.add_argument("--mutants", nargs="*", choices=tuple(MUTANTS), metavar="NAME")
    parser.add_argument("--part", metavar="N/M")
    parser.add_argument("--parts", type=int, metavar="M")
    parser.add_argument("--results", type=Path, default=Path("chaos-results"), metavar="DIR")
    parser.add_argument("--sum", type=Path, metavar="DIR")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has started, too
    mail = MAIL if given.mail else 0
    try:
        if given.sum is not None:
            return _sum(given.sum)
        if given.mutants is not None:
            return asyncio.run(hunt(given.mutants or tuple(MUTANTS), given.seed))
        if given.points is not None:
            return _points(given, mail)
        if given.part or given.parts:
            return _long(given, mail)
    except ValueError as error:
        parser.error(str(error))
    stops = given.kills // KILLS_A_STOP
    size = Size(given.kills, given.messages, stops, given.life, mail=mail)
    return 0 if _run(size, given.seed, given.directory, COMMAND).clean else 1


def _points(given: argparse.Namespace, mail: int) -> int:
    size = sweep.sweep(given.points or POINTS, given.times, mail, given.seed)
    summary = _run(size, given.seed, given.directory, BUILD)
    sweep.show_points(size, summary)
    missed = sweep.never_hit(size, summary)
    if missed:
        print(f"never hit: {', '.join(missed)}")
    return 0 if summary.clean and not missed else 1


def _long(given: argparse.Namespace, mail: int) -> int:
    whole = Size(parts.KILLS, parts.MESSAGES, parts.KILLS // KILLS_A_STOP, given.life, mail=mail)
    if given.part:
        wanted = [parts.Part.named(given.part, given.seed)]
    else:
        wanted = parts.missing(given.results, given.parts, given.seed)
    clean = True
    for part in wanted:
        file = part.file(given.results)
        if file.exists():
            print(f"{file} is there: remove it to run this part again")
            summary = Summary.read(file.read_text())
        else:
            summary = _run(part.size(whole), part.own_seed, None, COMMAND)
            parts.keep(summary, file)
            print(summary.line())
        clean = clean and summary.clean
    return 0 if clean else 1


def _sum(results: Path) -> int:
    summary, away = parts.add_up(results)
    show(summary)
    if away:
        print(f"still to run: {', '.join(away)}")
    return 0 if summary.clean and not away else 1


def _run(size: Size, seed: int, directory: Path | None, command: tuple[str, ...]) -> Summary:
    directory = directory or Path(tempfile.mkdtemp(prefix="postroom-chaos-")) / "run"
    plan = make(size, seed)
    outcome = asyncio.run(
        run(plan, size, directory, command=command, tell=lambda text: print(text, flush=True))
    )
    summary = summarise(outcome, plan, size)
    show(summary, outcome.violations, outcome.directory)
    return summary


if __name__ == "__main__":
    sys.exit(main())
