"""Faults on the lines to the mailbox (a real Dovecot) and to the server that takes our mails."""

from __future__ import annotations

import asyncio
import signal
from collections import deque

from tests.e2e.looking import eventually
from tests.faults.proxy import HOST, Toxics
from tests.faults.stage import Stage
from tests.faults.trial import Times, trial

SEEN_SECONDS = 75.0  # SURFACE, /readyz: after the fault at the latest
SENT_SECONDS = 15.0  # the same for what does not get out
SETTLED_SECONDS = 150.0  # the second look at a Sent folder comes two minutes after the first
LARGE_BYTES = 400_000
MAILBOX = "connector:support"


async def frozen(stage: Stage, times: Times) -> None:
    """The server's processes stand still (SIGSTOP) while we are in IDLE; connections stand."""
    async with trial(stage, times) as it:
        await stage.write()
        await it.answered()
        it.struck()
        stage.post.dovecot.signal(signal.SIGSTOP)
        await it.red(MAILBOX, within=SEEN_SECONDS)
        it.mended()
        stage.post.dovecot.signal(signal.SIGCONT)
        await stage.write()
        await it.well()


async def half_open(stage: Stage, times: Times) -> None:
    """The IMAP connections stand, and nothing comes through them; new ones are silent."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.post.imap.poison(Toxics(timeout=True))
        await stage.write()
        await it.red(MAILBOX, within=SEEN_SECONDS)
        it.mended()
        await stage.post.imap.heal()
        await it.well()


async def killed(stage: Stage, times: Times) -> None:
    """The IMAP server is killed (SIGKILL) with an answer in hand, and comes back."""
    async with trial(stage, times) as it:
        gate = stage.model.hold("mark-0002")
        await stage.write()
        await gate.arrived()
        it.struck()
        await asyncio.to_thread(stage.post.dovecot.kill)
        gate.release()
        await it.red(MAILBOX, within=SEEN_SECONDS)
        it.mended()
        await asyncio.to_thread(stage.post.dovecot.start)
        await stage.write()
        await it.well()


async def cut_in_fetch(stage: Stage, times: Times) -> None:
    """The connection is reset within a large mail that is being fetched."""
    async with trial(stage, times) as it:
        opened = stage.post.imap.opened
        it.struck()
        await stage.post.imap.poison(Toxics(reset_peer=100_000), "downstream")
        await stage.write(size=LARGE_BYTES)
        await eventually(lambda: stage.post.imap.opened > opened, "a new connection")
        await it.red(MAILBOX, within=SEEN_SECONDS)
        it.mended()
        await stage.post.imap.heal()
        await it.well()


async def garbage(stage: Stage, times: Times) -> None:
    """Noise comes out of the IMAP connection (in clear: no TLS stops it before our parser)."""
    plain = {"host": HOST, "port": stage.post.plain.port, "security": "plain"}
    imap = stage.post.table()["imap"] | plain
    async with trial(stage, times, connectors__support={"imap": imap}) as it:
        it.struck()
        await stage.post.plain.poison(Toxics(garbage=True), "downstream")
        await stage.write()
        await it.red(MAILBOX, within=SEEN_SECONDS)
        it.mended()
        await stage.post.plain.heal()
        await it.well()


async def sliced(stage: Stage, times: Times) -> None:
    """All that IMAP and SMTP say comes in single bytes. Nothing turns red."""
    async with trial(stage, times) as it:
        for line in (stage.post.imap, stage.post.smtp):
            await line.poison(Toxics(slicer=1))
        it.struck()
        for _ in range(2):
            await stage.write()
        it.mended()
        await it.well()


async def smtp_away(stage: Stage, times: Times) -> None:
    """The SMTP server is out of reach: mail comes in, answers wait."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.post.smtp.cut()
        await stage.write()
        await it.warned(MAILBOX, within=SENT_SECONDS)
        assert (await it.daemon.get("/readyz"))[0] == 200, "mail is still heard"
        it.mended()
        await stage.post.smtp.heal()
        await it.well()


async def smtp_half_open(stage: Stage, times: Times) -> None:
    """SMTP connections open and are silent."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.post.smtp.poison(Toxics(timeout=True))
        await stage.write()
        await it.warned(MAILBOX, within=SETTLED_SECONDS)
        it.mended()
        await stage.post.smtp.heal()
        await it.well()


async def smtp_lost_after_data(stage: Stage, times: Times) -> None:
    """The mail is taken, and the connection ends before the server's word: nobody can tell."""
    async with trial(stage, times) as it:
        stage.post.sink.script = deque(["die"])
        it.struck()
        await stage.write()
        await it.operators_told("may or may not have arrived", within=SETTLED_SECONDS)
        it.mended()
        await stage.write()
        await it.well()
        assert len(stage.post.sink.taken) == 2, "it was not sent again"


async def smtp_later(stage: Stage, times: Times) -> None:
    """The server takes no mail for now (451 after DATA)."""
    async with trial(stage, times) as it:
        stage.post.sink.script = deque(["451 4.3.0 try again later"] * 3)
        it.struck()
        await stage.write()
        await it.warned(MAILBOX, within=SENT_SECONDS, about="451")
        it.mended()
        await it.well()


async def smtp_greylisted(stage: Stage, times: Times) -> None:
    """The recipient is refused for now (450 at RCPT), as greylisting does with strangers."""
    async with trial(stage, times) as it:
        stage.post.sink.refused["bob@example.com"] = "450 4.2.0 greylisted"
        it.struck()
        await stage.write()
        await it.warned(MAILBOX, within=SENT_SECONDS, about="greylisted")
        it.mended()
        stage.post.sink.refused.clear()
        await it.well()


async def smtp_refused(stage: Stage, times: Times) -> None:
    """The mail is refused for good (554): people are told, and nothing is tried again."""
    async with trial(stage, times) as it:
        stage.post.sink.script = deque(["554 5.7.1 no such thing here"])
        it.struck()
        it.excused.add(await stage.write())
        await it.operators_told("could not be delivered", within=SENT_SECONDS)
        it.mended()
        await stage.write()
        await it.well()
        status, listed, _ = await it.daemon.run("dead", "list")
        assert status == 0
        assert "554" in listed


SCENARIOS = (
    frozen,
    half_open,
    killed,
    cut_in_fetch,
    garbage,
    sliced,
    smtp_away,
    smtp_half_open,
    smtp_lost_after_data,
    smtp_later,
    smtp_greylisted,
    smtp_refused,
)
