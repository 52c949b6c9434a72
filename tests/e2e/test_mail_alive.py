"""A mail server that freezes: seen on `/readyz`, and nothing to be done about it by hand."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.model import StandInModel
from tests.dovecot import Postbox
from tests.e2e import brisk
from tests.e2e.mail_office import Office
from tests.mails import raw
from tests.smtp_sink import SmtpSink

pytestmark = [pytest.mark.e2e, pytest.mark.dovecot]

SLACK_SECONDS = 15.0  # what a loaded machine may add


@pytest.fixture
async def office(
    tmp_path: Path, model: StandInModel, own_postbox: Postbox
) -> AsyncIterator[Office]:
    async with SmtpSink() as sink:
        yield Office(tmp_path, model, own_postbox, sink)


async def test_a_frozen_server_turns_readyz_red_and_heals_by_itself(office: Office) -> None:
    server = office.postbox.server
    command = (sys.executable, "-P", brisk.__file__, "run")
    async with office.daemon(command=command) as daemon:
        began = time.monotonic()
        server.signal(signal.SIGSTOP)
        try:
            shown = await daemon.until("/readyz", lambda status, _: status == 503)
            assert time.monotonic() - began < brisk.NOTICED_SECONDS + SLACK_SECONDS
            assert "connector:support" in shown
            assert (await daemon.get("/livez"))[0] == 200
            # Mail goes on arriving: the files are there before the server tells of them.
            await asyncio.to_thread(office.postbox.drop, raw(text="Hours? [[say:On Sundays.]]"))
        finally:
            server.signal(signal.SIGCONT)
        (answer,) = await office.taken()
        assert answer.get_content().strip() == "On Sundays."
        await daemon.until_ready()
        assert len(office.sink.taken) == 1
