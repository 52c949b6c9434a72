"""A mailbox that is told to end ends, whatever it is in the midst of."""

from __future__ import annotations

import asyncio
from pathlib import Path

from connectors.imap.connector import ImapConnector
from tests.mails import around, table
from tests.smtp_sink import SmtpSink

STEPS = 60  # more than the turns of the event loop that a first look at SMTP takes
PATIENCE_SECONDS = 5.0  # a watch of SMTP that goes on sleeps for a minute


async def test_the_watch_of_smtp_ends_at_whatever_moment_it_is_cancelled(tmp_path: Path) -> None:
    """asyncio.wait_for of Python 3.11 loses a cancel that comes together with its result
    (python/cpython#86296); aiosmtplib waits by it for each reply.
    """
    async with SmtpSink() as sink:
        smtp = {"host": "127.0.0.1", "port": sink.port, "security": "plain"}
        for steps in range(STEPS):
            connector = ImapConnector("support", table(smtp=smtp), around(tmp_path))
            watch = asyncio.create_task(connector._watch_smtp())
            for _ in range(steps):
                await asyncio.sleep(0)
            watch.cancel()
            _, left = await asyncio.wait({watch}, timeout=PATIENCE_SECONDS)
            assert not left, f"it goes on when it is cancelled after {steps} turns of the loop"
            sink.hang_up()
