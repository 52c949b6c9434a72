"""A mail's way: from its delivery into the mailbox to the reply in another server's hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.demo.process import DaemonProcess
from tests.bench.bare import MODEL, Bare, turn
from tests.bench.rows import Row, compare, more
from tests.bench.stage import PATIENCE
from tests.bench.standin import KEY
from tests.dovecot import BINARY, PASSWORD, Dovecot, Postbox
from tests.mails import ADDRESS, SERVER, raw
from tests.smtp_sink import SmtpSink

REST = 0.5  # between two mails: seconds


async def mail(root: Path, url: str, samples: int = 60) -> list[Row]:
    """Mails of one thread, its process up, to a real Dovecot over TLS; aiosmtpd takes the reply."""
    if not BINARY.exists():
        print("mail: Debian's Dovecot is not here; `make setup` as root installs it")
        return []
    bare = Bare(root, url)
    with _dovecot() as server:
        postbox = Postbox(server, "bench@example.test")
        async with (
            SmtpSink() as sink,
            _daemon(root / "mail", url, postbox, sink),
            bare.hot() as (client,),
        ):
            ours, turns, told = [], [], []
            await _answered(postbox, sink)
            for _ in range(samples):
                await asyncio.sleep(REST)
                turns.append(1000 * await turn(client))
                watching = Watching(postbox)
                ours.append(1000 * await _answered(postbox, sink))
                told.append(1000 * await watching.took())
    work = "mail delivered -> its reply handed to SMTP"
    beside = "a hot ClaudeSDKClient's turn (peers poll every 5 s or more)"
    plain = [heard + took for heard, took in zip(told, turns, strict=True)]
    return [
        *compare(work, beside, ours, turns, p50=more(500), p99=more(500)),
        *compare(work, "Dovecot tells a bare IDLE of it, and that turn", ours, plain),
    ]


class Watching:
    """The standard library's client in IDLE on the same mailbox, and when it is told of a mail."""

    def __init__(self, postbox: Postbox) -> None:
        self._reader = postbox.reader()
        self._reader.select("INBOX", readonly=True)
        self._reader.send(b"watch IDLE\r\n")
        self._reader.readline()
        self._began = time.perf_counter()
        self._heard = asyncio.create_task(asyncio.to_thread(self._hear))

    def _hear(self) -> float:
        while b"EXISTS" not in self._reader.readline():
            continue
        return time.perf_counter() - self._began

    async def took(self) -> float:
        """Seconds from its beginning, right before the mail's delivery."""
        seconds = await self._heard
        await asyncio.to_thread(self._reader.shutdown)
        return seconds


@contextmanager
def _dovecot() -> Iterator[Dovecot]:
    server = Dovecot()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _daemon(root: Path, url: str, postbox: Postbox, sink: SmtpSink) -> DaemonProcess:
    support = {
        "kind": "imap",
        "address": ADDRESS,
        "imap": {
            "host": "localhost",
            "port": postbox.server.imaps,
            "security": "tls",
            "user": postbox.address,
            "password": {"env": "IMAP_PASSWORD"},
        },
        "smtp": {"host": "127.0.0.1", "port": sink.port, "security": "plain"},
        "mode": "reply",
        "allow": ["*@example.com"],
        "authserv_id": SERVER,
        "max_replies_per_thread_daily": 10_000,
        "max_replies_per_sender_daily": 10_000,
    }
    tables: dict[str, dict[str, Any]] = {
        "agent": {"api_url": url, "model": MODEL},
        "connectors.support": support,
    }
    secrets = {
        "ANTHROPIC_API_KEY": KEY,
        "IMAP_PASSWORD": PASSWORD,
        "SSL_CERT_FILE": str(postbox.server.cafile),
    }
    return DaemonProcess(root, tables, secrets)


async def _answered(postbox: Postbox, sink: SmtpSink) -> float:
    """Seconds from a mail's delivery, as one more of the thread, until its reply was taken."""
    count = len(sink.taken)
    thread = () if not count else (("In-Reply-To", "<mail-0@example.com>"),)
    letter = raw(*thread, message_id=f"<mail-{count}@example.com>", text="hello")
    began = time.perf_counter()
    await postbox.delivered(letter)
    async with asyncio.timeout(PATIENCE):
        await sink.until(lambda: len(sink.taken) > count)
    return time.perf_counter() - began
