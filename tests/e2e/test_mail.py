"""The installed daemon behind a mailbox: the real CLI, Dovecot over TLS, a real SMTP server."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.model import StandInModel
from tests.dovecot import Postbox
from tests.e2e.looking import eventually
from tests.e2e.mail_office import Office
from tests.mails import raw
from tests.smtp_sink import SmtpSink

pytestmark = [pytest.mark.e2e, pytest.mark.dovecot]


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    async with SmtpSink() as started:
        yield started


@pytest.fixture
def office(tmp_path: Path, model: StandInModel, postbox: Postbox, sink: SmtpSink) -> Office:
    return Office(tmp_path, model, postbox, sink)


async def test_a_thread_by_mail_is_answered_and_can_be_traced(office: Office) -> None:
    async with office.daemon() as daemon:
        await office.postbox.delivered(raw(text="Hours? [[say:On Sundays.]]"))
        (first,) = await office.taken()
        assert first.get_content().strip() == "On Sundays."
        reply = raw(
            ("In-Reply-To", first["Message-ID"]),
            message_id="<two@example.com>",
            text="And [[say:On Mondays, too.]]",
        )
        await office.postbox.delivered(reply)
        second = (await office.taken(2))[1]
        assert second.get_content().strip() == "On Mondays, too."
        assert [copy["Message-ID"] for copy in await office.filed("Sent", 2)] == [
            first["Message-ID"],
            second["Message-ID"],
        ]
        status, out, _ = await daemon.run("trace", "<one@example.com>")
        assert status == 0
        assert first["Message-ID"].strip("<>") in out


async def test_erasing_takes_the_copy_along_that_sent_has_not_got_yet(office: Office) -> None:
    async with office.daemon() as daemon:
        await office.postbox.delivered(raw(text="Between us [[say:It stays so.]]"))
        await office.taken()
        (copy,) = await eventually(lambda: [*daemon.data.glob("sent/*/*")], "the copy kept")
        assert b"It stays so." in copy.read_bytes()
        _, story = await daemon.get("/api/v1/trace/<one@example.com>")
        await eventually(lambda: daemon.logged("delivery.sent"), "the delivery written down")
        conversation = story["messages"][0]["conversation"]
        status, out, err = await daemon.run("conversations", "erase", conversation)
        assert (status, err) == (0, ""), out
        assert not copy.exists()
    assert b"It stays so." not in b"".join(
        path.read_bytes() for path in daemon.data.rglob("*") if path.is_file()
    )


async def test_a_stranger_is_drafted_for_and_a_newsletter_ignored(office: Office) -> None:
    async with office.daemon(mode="draft"):
        await office.postbox.delivered(
            raw(("List-Id", "<news.evil.org>"), sender="news@evil.org", proven=False),
            raw(sender="eve@evil.org", proven=False, text="Hello [[say:Hello Eve.]]"),
        )
        (draft,) = await office.filed("Drafts")
        assert draft["To"] == "eve@evil.org"
        assert draft.get_content().strip() == "Hello Eve."
        assert len(await office.model.requests()) == 1
        assert not office.sink.taken


async def test_sorted_mail_is_labelled_by_an_agent_without_tools(office: Office) -> None:
    async with office.daemon(mode="triage") as daemon:
        verdict = '{"label": "complaint", "person": true, "note": "Angry."}'
        await office.postbox.delivered(
            raw(sender="eve@evil.org", proven=False, text=f"Hello [[say:{verdict}]]")
        )

        await eventually(lambda: office.labelled("complaint"), "the label")
        await eventually(lambda: daemon.logged("operators.told"), "people told")
        assert "Angry" not in daemon.log.read_text()
        assert not office.sink.taken


async def test_an_agent_labels_the_mail_that_it_answers(office: Office) -> None:
    async with office.daemon():
        label = '[[tool:mcp__postroom__label {"label": "question"}]]'
        await office.postbox.delivered(raw(text=f"Hours? {label} [[say:On Sundays.]]"))
        (answer,) = await office.taken()
        assert answer.get_content().strip() == "On Sundays."
        await eventually(lambda: office.labelled("question"), "the label")


async def test_a_mail_that_was_cut_off_by_a_crash_is_found_and_not_sent_again(
    office: Office,
) -> None:
    office.sink.script = deque(["hang"])
    daemon = office.daemon()
    async with daemon:
        await office.postbox.delivered(raw(text="Hours? [[say:On Sundays.]]"))
        (sent,) = await office.taken()
        await daemon.kill()

        def file_as_providers_do() -> None:
            with office.postbox.reader() as reader:
                reader.append("Sent", "", "", office.sink.taken[0].raw)

        await asyncio.to_thread(file_as_providers_do)
        await daemon.start()
        await eventually(lambda: daemon.logged("delivery.found"), "the mail found in Sent")
        _, out, _ = await daemon.run("trace", "<one@example.com>")
        assert sent["Message-ID"].strip("<>") in out
        assert len(office.sink.taken) == 1
        assert len(await office.filed("Sent")) == 1


async def test_a_wrong_imap_password_is_shown_and_the_rest_works_on(office: Office) -> None:
    daemon = office.daemon(password="not-the-password")
    try:
        await daemon.start(ready=False)
        shown = await daemon.until("/readyz", lambda _, body: "parked" in str(body))
        assert "connector:support" in shown
        assert (await daemon.get("/livez"))[0] == 200
        assert len(daemon.logged("service.parked")) == 1
        assert "not-the-password" not in daemon.log.read_text()
    finally:
        await daemon.__aexit__(None, None, None)


async def test_a_wrong_smtp_password_warns_and_mail_still_comes_in(office: Office) -> None:
    office.sink.login = ("support", "right")
    smtp = {"user": "support", "password": {"env": "SMTP_PASSWORD"}}
    async with office.daemon(smtp=smtp) as daemon:
        body = await daemon.until("/healthz", lambda _, body: "password is refused" in str(body))
        assert json.loads(body)["status"] == "warn"
        await office.postbox.delivered(raw(text="Hours? [[say:On Sundays.]]"))
        await eventually(lambda: daemon.logged("delivery.deferred"), "the answer waiting")
        assert (await daemon.get("/readyz"))[0] == 200
        assert office.sink.connections == 1  # no storm: that would lock the account
        assert "wrong-smtp-password" not in daemon.log.read_text()
