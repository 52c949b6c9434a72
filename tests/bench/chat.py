"""Slack messages from event to post, each beside the SDK by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from claude_agent_sdk import ClaudeSDKClient

from tests.bench.bare import Bare, turn
from tests.bench.rows import Row, at_most, compare, more, quantile, ratio
from tests.bench.stage import PATIENCE, PERSON, POSTS_APART, Stage, stage

CHANNELS = 4
BURST, PARALLEL = 20, 2


def milliseconds(seconds: list[float]) -> list[float]:
    return [1000 * value for value in seconds]


# --- registering ---------------------------------------------------------------------------------


async def acks(root: Path, url: str, events: int = 500, bursts: int = 3) -> list[Row]:
    """Direct messages that come at once, each a conversation of its own: from each event's frame to
    its acknowledgement, which says that it is on disk.
    """
    seconds: list[float] = []
    for number in range(bursts):
        async with stage(root / str(number), url, pool={"max_processes": 1}) as standing:
            slack = standing.slack
            said = [slack.dm(PERSON, "hello") for _ in range(events)]
            heard = [await slack.wait_for_ack(one, within=PATIENCE) for one in said]
            seconds += [ack["seconds"] for ack in heard]
            await standing.daemon.kill()  # what it registered is not to be answered here
    worst = quantile(seconds, 99) * 1000
    work = f"Slack event -> ack, {events} at once, p99"
    return [Row(work, "-", worst, None, "ms", len(seconds), at_most(50))]


# --- a live conversation --------------------------------------------------------------------------


async def live(root: Path, url: str, samples: int = 120) -> list[Row]:
    """Turns in conversations whose process is up, and in clients that are connected."""
    bare = Bare(root, url)
    pool = {"max_processes": CHANNELS + 2, "spare_processes": 1}
    async with stage(root, url, pool=pool) as standing, bare.hot(CHANNELS) as clients:
        ours, plain = await _live(standing, clients, samples)
    return compare(
        "message in a live conversation: event -> post",
        "a hot ClaudeSDKClient's turn",
        milliseconds(ours),
        milliseconds(plain),
        p50=more(20),
        p99=more(60),
    )


async def _live(
    standing: Stage, clients: list[ClaudeSDKClient], samples: int
) -> tuple[list[float], list[float]]:
    threads = [standing.begin(number) for number in range(CHANNELS)]
    for thread in threads:
        await standing.answered(thread)
    await standing.until_rested(spare=1)
    ours, plain = [], []
    for sample in range(samples):
        number = sample % CHANNELS
        began = time.perf_counter()
        plain.append(await turn(clients[number]))
        ours.append(await standing.answered(standing.go_on(threads[number])))
        pause = POSTS_APART / CHANNELS * 1.2 - (time.perf_counter() - began)
        await asyncio.sleep(max(pause, 0.1))
    return ours, plain


# --- a new conversation, and one whose process has gone -------------------------------------------


async def fresh(root: Path, url: str, samples: int = 12) -> list[Row]:
    """In each round, once all processes but the spare have been closed, a first message beside a
    bare cold `query()`, then a message in the conversation of the round before beside a bare
    resume. `idle_seconds` is short here, so that they are closed within a few seconds.
    """
    bare = Bare(root, url)
    first, cold, evicted, resumed = [], [], [], []
    pool = {"max_processes": 4, "spare_processes": 1, "idle_seconds": 0.5}
    async with stage(root, url, pool=pool) as standing:
        told = standing.begin(0)
        await standing.answered(told)
        session = bare.new_workspace()
        async with ClaudeSDKClient(bare.options(session)) as client:
            await turn(client)
        for number in range(samples):
            await standing.until_rested(spare=1, idle=0)
            before, told = told, standing.begin(number + 1)
            first.append(await standing.answered(told))
            cold.append(await bare.cold())
            await standing.until_rested(spare=1)
            evicted.append(await standing.answered(standing.go_on(before)))
            resumed.append(await bare.resumed(session))
    return [
        *compare(
            "first message of a conversation, spare ready",
            "a cold query()",
            milliseconds(first),
            milliseconds(cold),
            p50=ratio(0.35),
        ),
        *compare(
            "message in an evicted conversation",
            "connect(resume) and turn",
            milliseconds(evicted),
            milliseconds(resumed),
            p50=ratio(1.15),
        ),
    ]


# --- many at once ---------------------------------------------------------------------------------


async def burst(root: Path, url: str, samples: int = 3) -> list[Row]:
    """New conversations at once, in as many channels, until the last has its answer."""
    bare = Bare(root, url)
    ours, plain = [], []
    pool = {
        "max_processes": BURST + 2,
        "spare_processes": 1,
        "start_parallelism": PARALLEL,
        "idle_seconds": 0.5,
    }
    async with stage(root, url, pool=pool) as standing:
        for _ in range(samples):
            await standing.until_rested(spare=1, idle=0)
            plain.append(await bare.at_once(BURST, PARALLEL))
            ours.append(await _all_answered(standing))
    return compare(
        f"{BURST} new conversations at once, all answered",
        f"{BURST} cold starts, {PARALLEL} at a time",
        ours,
        plain,
        unit="s",
        p50=ratio(1.1),
    )[:1]


async def _all_answered(standing: Stage) -> float:
    began = time.perf_counter()
    asked = [standing.begin(number) for number in range(BURST)]
    await asyncio.gather(*map(standing.answered, asked))
    return time.perf_counter() - began
