"""A flood of mail beside people who chat, and very many threads over few processes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from daemon.agents.scripted import Say, Step
from daemon.model import Priority, Prompt
from tests.flow import Flow, RecordingConnector
from tests.load.report import Report, resident_mib, seconds

AT_ONCE = 50  # mails in the way at the same time, as of a few mailboxes
PROCESSES = 8
CHATS = 40
ROUNDS = 3


def echo(prompt: Prompt) -> Sequence[Step]:
    return [Say(prompt.text.splitlines()[-1])]


async def chat(flow: Flow, numbers: itertools.count[int]) -> float:
    """Seconds from the message's arrival to its answer outside."""
    text = f"quick {next(numbers)}"
    began = time.monotonic()
    await flow.say(text, text)
    async with asyncio.timeout(120):
        while not any(thread == text for thread, _ in reversed(flow.chat.outside)):
            await asyncio.sleep(0.001)
    return time.monotonic() - began


async def flood(root: Path, report: Report, mails: int) -> None:
    mail = RecordingConnector("mail", Priority.MAIL)
    connectors = (RecordingConnector(), mail)
    async with Flow(root, max_processes=PROCESSES, spares=1, connectors=connectors) as flow:
        flow.agents.script = echo
        numbers = itertools.count()
        idle = [await chat(flow, numbers) for _ in range(CHATS)]
        gc.collect()
        before, began = resident_mib(), time.monotonic()
        gate = asyncio.Semaphore(AT_ONCE)

        async def come(number: int) -> None:
            async with gate:
                await flow.say(f"mail {number}", f"mail-{number}", connector=mail)

        coming = asyncio.gather(*(come(number) for number in range(mails)))
        beside: list[float] = []
        while not coming.done():
            beside.append(await chat(flow, numbers))
        await coming
        registered = time.monotonic() - began
        peak = resident_mib()
        after = [await chat(flow, numbers) for _ in range(CHATS)]
        waiting = (await flow.ledger.counts()).waiting
        await flow.until(lambda: len(mail.outside) >= mails, within=3600)
        answered = time.monotonic() - began
        gc.collect()
        report.add("flood", f"{mails} mails registered", f"{registered:.1f} s")
        report.add("flood", "still waiting when the last had come", str(waiting))
        report.add("flood", "all answered", f"{answered:.1f} s")
        report.add("flood", "a chat answered, nothing else at work", seconds(idle))
        report.add("flood", "a chat answered while mails come", seconds(beside))
        report.add("flood", "a chat answered while mails are worked on", seconds(after))
        report.add("flood", "memory: before, in the flood, after", f"{before:.0f}, {peak:.0f}, "
                   f"{resident_mib():.0f} MiB")  # fmt: skip
        threads = [thread for thread, _ in mail.outside]
        report.check("a mail is lost", holds=len(set(threads)) == mails)
        report.check("a mail is answered twice", holds=len(threads) == len(set(threads)))


async def conversations(root: Path, report: Report, threads: int) -> None:
    async with Flow(root, max_processes=PROCESSES, spares=1) as flow:
        flow.agents.script = echo
        began, before = time.monotonic(), resident_mib()
        for turn in range(ROUNDS):
            for number in range(threads):
                await flow.say(f"{turn}", f"t{number}")
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, len(flow.agents.processes()))
            return len(last) == threads

        last: set[str] = set()
        seen = 0
        while not done():
            for thread, text in flow.chat.outside[seen:]:
                seen += 1
                if text == str(ROUNDS - 1):
                    last.add(thread)
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        asked = ROUNDS * threads
        report.add("conversations", f"{asked} messages in {threads} threads answered",
                   f"{took:.1f} s, {asked / took:.0f} messages a second")  # fmt: skip
        report.add("conversations", "turns, and process starts",
                   f"{len(flow.agents.prompts)}, {len(flow.agents.starts)}")  # fmt: skip
        report.add("conversations", "processes at most", f"{most} of {PROCESSES}")
        report.add("conversations", "memory: before, after",
                   f"{before:.0f}, {resident_mib():.0f} MiB")  # fmt: skip
        by_thread: dict[str, list[int]] = {}
        for thread, text in flow.chat.outside:
            if text.isdigit():
                by_thread.setdefault(thread, []).append(int(text))
        ordered = all(answers == sorted(set(answers)) for answers in by_thread.values())
        report.check("an answer out of order, or twice", holds=ordered)
        report.check("more processes than slots", holds=most <= PROCESSES)
