"""A flood of mails into one mailbox, and what it costs the daemon.

python -m tests.e2e.flood 10000     prints the figures of docs/reliability.md
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.script import directed
from tests.dovecot import Dovecot, Postbox
from tests.e2e.conftest import MODEL_KEY
from tests.e2e.mail_office import Office
from tests.mails import raw
from tests.smtp_sink import SmtpSink

PATIENCE_SECONDS = 1800.0
LOOK_SECONDS = 0.25
NEWSLETTER_EVERY = 10  # one mail in so many is one, and is ignored
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Flood:
    """What was seen: how many mails became what, seconds until the last one, resident bytes of
    the daemon before and at most, and its longest answer on `/livez` in seconds.
    """

    outcomes: dict[str, int]
    seconds: float
    rss_before: int
    rss_most: int
    livez_longest: float


def letters(count: int) -> Iterator[bytes]:
    """Each from one of 500 strangers, 2 kB long, and about something of its own."""
    for number in range(count):
        sender = f"person{number % 500}@elsewhere.test"
        fields = [("List-Id", "<news.elsewhere.test>")] if number % NEWSLETTER_EVERY == 0 else []
        yield raw(
            *fields,
            sender=sender,
            proven=False,
            message_id=f"<flood-{number}@elsewhere.test>",
            subject=f"Flood {number}",
            text=f"Question {number} [[say:Answer {number}.]]\n" + "All work and no play.\n" * 90,
        )


async def flood(daemon: DaemonProcess, postbox: Postbox, count: int) -> Flood:
    """All at once into the maildir of a mailbox that is watched, until each one is registered."""
    process = psutil.Process(daemon.pid)
    before = most = process.memory_info().rss
    longest, began = 0.0, time.monotonic()
    dropping = asyncio.create_task(asyncio.to_thread(postbox.drop, *letters(count)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum((outcomes := await _registered(daemon)).values()) < count:
            asked = time.monotonic()
            await daemon.get("/livez")
            longest = max(longest, time.monotonic() - asked)
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(LOOK_SECONDS)
    await dropping
    return Flood(outcomes, time.monotonic() - began, before, most, longest)


async def _registered(daemon: DaemonProcess) -> dict[str, int]:
    """How many messages the daemon has registered, by outcome."""
    _, page = await daemon.get("/metrics")
    return {
        sample.labels["outcome"]: int(sample.value)
        for family in text_string_to_metric_families(str(page))
        for sample in family.samples
        if sample.name == "postroom_messages_received_total"
    }


async def main(count: int) -> None:
    server = Dovecot()
    try:
        await asyncio.to_thread(server.start)
        with tempfile.TemporaryDirectory() as root:
            async with StandInModel(directed, api_key=MODEL_KEY) as model, SmtpSink() as sink:
                postbox = Postbox(server, "box@example.test")
                async with Office(Path(root), model, postbox, sink).daemon() as daemon:
                    seen = await flood(daemon, postbox, count)
                    drafts = len(await asyncio.to_thread(postbox.mails, "Drafts"))
    finally:
        await asyncio.to_thread(server.stop)
    print(f"mails                    {count}: {seen.outcomes}")
    print(f"registered after         {seen.seconds:.1f} s ({count / seen.seconds:.0f} a second)")
    print(f"answered meanwhile       {drafts}")
    print(f"resident before, at most {seen.rss_before // MB} MB, {seen.rss_most // MB} MB")
    print(f"longest /livez           {seen.livez_longest * 1000:.0f} ms")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
