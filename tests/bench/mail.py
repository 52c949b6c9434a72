"""A mail's way: from its delivery into the mailbox to the reply in another server's hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.demo.mail import StandInMail
from daemon.demo.process import DaemonProcess
from tests.bench.bare import MODEL, Bare, turn
from tests.bench.rows import Row, compare, more
from tests.bench.stage import PATIENCE
from tests.bench.standin import KEY
from tests.dovecot import BINARY, PASSWORD, Dovecot, Postbox
from tests.mails import ADDRESS, SERVER, raw
from tests.smtp_sink import SmtpSink

REST = 0.5  # between two mails: seconds
SAMPLES = 40
TURN = "a hot ClaudeSDKClient's turn (peers poll every 5 s or more)"

Deliver = Callable[[bytes], Awaitable[object]]


async def mail(root: Path, url: str) -> list[Row]:
    """Mails of one thread, its process up; aiosmtpd takes the replies."""
    rows = await _at_once(root / "at-once", url)
    if BINARY.exists():
        return [*rows, *await _dovecot(root / "dovecot", url)]
    print("mail: Debian's Dovecot is not here; `make bench` as root installs it")
    return rows


async def _at_once(root: Path, url: str) -> list[Row]:
    """A server that tells at once (pymap): what is ours, and nothing else."""
    bare = Bare(root, url)
    async with StandInMail([ADDRESS]) as server, SmtpSink() as sink:
        door = {
            "host": "127.0.0.1",
            "port": server.imap_port,
            "security": "plain",
            "user": ADDRESS,
            "password": {"env": "IMAP_PASSWORD"},
        }
        secrets = {"IMAP_PASSWORD": server.password}

        async def deliver(letter: bytes) -> object:
            return await server.put(ADDRESS, letter)

        ours, turns = [], []
        async with _daemon(root, url, door, secrets, sink), bare.hot() as (client,):
            await _answered(deliver, sink)
            for _ in range(SAMPLES):
                await asyncio.sleep(REST)
                turns.append(1000 * await turn(client))
                ours.append(1000 * await _answered(deliver, sink))
    work = "mail -> reply handed to SMTP, told at once"
    return compare(work, TURN, ours, turns, p50=more(500), p99=more(500))


async def _dovecot(root: Path, url: str) -> list[Row]:
    """A real one over TLS. It tells IDLE clients half a second late, whoever they are: a bare one
    on the same mailbox shows how late.
    """
    bare = Bare(root, url)
    with _server() as server:
        postbox = Postbox(server, "bench@example.test")
        door = {
            "host": "localhost",
            "port": server.imaps,
            "security": "tls",
            "user": postbox.address,
            "password": {"env": "IMAP_PASSWORD"},
        }
        secrets = {"IMAP_PASSWORD": PASSWORD, "SSL_CERT_FILE": str(server.cafile)}
        ours, turns, told = [], [], []
        async with (
            SmtpSink() as sink,
            _daemon(root, url, door, secrets, sink),
            bare.hot() as (client,),
        ):
            await _answered(postbox.delivered, sink)
            for _ in range(SAMPLES):
                await asyncio.sleep(REST)
                turns.append(1000 * await turn(client))
                watching = Watching(postbox)
                ours.append(1000 * await _answered(postbox.delivered, sink))
                told.append(1000 * await watching.took())
    work = "mail -> reply handed to SMTP, Dovecot"
    plain = [heard + took for heard, took in zip(told, turns, strict=True)]
    return [
        *compare(work, TURN, ours, turns, p50=more(500), p99=more(500)),
        *compare(work, "a bare IDLE is told of it, and that turn", ours, plain),
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
def _server() -> Iterator[Dovecot]:
    server = Dovecot()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _daemon(
    root: Path, url: str, door: Mapping[str, Any], secrets: Mapping[str, str], sink: SmtpSink
) -> DaemonProcess:
    """A daemon with one mailbox, that answers whoever writes as often as they do."""
    support: dict[str, Any] = {
        "kind": "imap",
        "address": ADDRESS,
        "imap": door,
        "smtp": {"host": "127.0.0.1", "port": sink.port, "security": "plain"},
        "mode": "reply",
        "allow": ["*@example.com"],
        "authserv_id": SERVER,
        "max_replies_per_thread_daily": 10_000,
        "max_replies_per_sender_daily": 10_000,
    }
    tables = {"agent": {"api_url": url, "model": MODEL}, "connectors.support": support}
    return DaemonProcess(root, tables, {"ANTHROPIC_API_KEY": KEY, **secrets})


async def _answered(deliver: Deliver, sink: SmtpSink) -> float:
    """Seconds from a mail's delivery, as one more of the thread, until its reply was taken."""
    count = len(sink.taken)
    thread = () if not count else (("In-Reply-To", "<mail-0@example.com>"),)
    letter = raw(*thread, message_id=f"<mail-{count}@example.com>", text="hello")
    began = time.perf_counter()
    await deliver(letter)
    async with asyncio.timeout(PATIENCE):
        await sink.until(lambda: len(sink.taken) > count)
    return time.perf_counter() - began
