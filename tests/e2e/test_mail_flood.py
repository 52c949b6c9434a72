"""More mail at once than anybody can answer: all of it is registered, and memory is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.model import StandInModel
from tests.dovecot import Postbox
from tests.e2e.flood import MB, NEWSLETTER_EVERY, flood
from tests.e2e.mail_office import Office
from tests.smtp_sink import SmtpSink

pytestmark = [pytest.mark.e2e, pytest.mark.dovecot, pytest.mark.timeout(400)]

MAILS = 300  # `python -m tests.e2e.flood 10000` is the large form
GROWTH_BYTES = 40 * MB  # an envelope: 10,000 mails take less


@pytest.fixture
async def office(
    tmp_path: Path, model: StandInModel, own_postbox: Postbox
) -> AsyncIterator[Office]:
    async with SmtpSink() as sink:
        yield Office(tmp_path, model, own_postbox, sink)


async def test_a_flood_is_registered_to_the_last_mail_in_bounded_memory(office: Office) -> None:
    async with office.daemon() as daemon:
        seen = await flood(daemon, office.postbox, MAILS)
        ignored = MAILS // NEWSLETTER_EVERY
        assert {k: v for k, v in seen.outcomes.items() if v} == {
            "new": MAILS - ignored,
            "ignored": ignored,
        }
        assert seen.rss_most - seen.rss_before < GROWTH_BYTES
        assert seen.livez_longest < 2.0  # generous: the machine is loaded
        for number in (0, 1, MAILS // 2, MAILS - 1):
            status, story = await daemon.get(f"/api/v1/trace/<flood-{number}@elsewhere.test>")
            assert status == 200, number
            assert len(story["messages"]) == 1
        assert not daemon.logged("service.restarting")
    assert not office.sink.taken  # they are strangers: nothing leaves without a person
