"""`python -m daemon.demo.slack --port N --journal FILE`: the stand-in in a process of its own.

Prints one JSON line with its addresses and tokens when it listens; SIGTERM or SIGINT ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from daemon.demo.slack.deliveries import Delivering
from daemon.demo.slack.server import StandInSlack


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daemon.demo.slack", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--journal", type=Path, help="JSON lines are appended to this file")
    parser.add_argument("--limits", action="store_true", help="enforce Slack's rate limits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ack-timeout", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument(
        "--retry-delays",
        type=lambda text: tuple(float(part) for part in text.split(",") if part),
        default=(0.0, 60.0, 300.0),
        metavar="SECONDS,...",
        help="pauses before each redelivery",
    )
    parser.add_argument(
        "--hold-unconnected",
        action="store_true",
        help="an event waits for a connection instead of failing without one",
    )
    return parser.parse_args()


async def serve(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    delivering = Delivering(
        ack_timeout=given.ack_timeout,
        retry_delays=given.retry_delays,
        hold_unconnected=given.hold_unconnected,
    )
    async with StandInSlack(
        port=given.port,
        journal=given.journal,
        limits=given.limits,
        delivering=delivering,
        seed=given.seed,
    ) as slack:
        facts = {
            "api_url": slack.api_url,
            "app_token": slack.app_token,
            "bot_token": slack.bot_token,
        }
        print(json.dumps(facts), flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
