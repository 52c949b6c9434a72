"""Mail in over a real Dovecot, answers out over real SMTP, drafts and labels in the mailbox."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.imap.connector import ImapConnector
from daemon.errors import AuthenticationFailed
from daemon.model import (
    EffectKind,
    HealthState,
    Message,
    NotNow,
    Outcome,
    Rejected,
    Sent,
    Sighting,
    Trust,
    Unclear,
)
from tests.dovecot import Postbox
from tests.fakes import RecordingIntake
from tests.integration.mail_stage import (
    PATIENCE,
    MailStage,
    Sending,
    close,
    effect,
    mail_stage,
    parsed,
    pending,
    stopped,
)
from tests.mails import raw

pytestmark = pytest.mark.dovecot

STRANGER = raw(sender="eve@evil.org", proven=False)


@pytest.fixture
async def stage(postbox: Postbox, tmp_path: Path) -> AsyncIterator[MailStage]:
    async with mail_stage(postbox, tmp_path) as made:
        yield made


# --- the whole way -------------------------------------------------------------------------------


async def test_a_colleagues_mail_is_answered_and_the_answer_filed(stage: MailStage) -> None:
    message = await stage.heard(raw())
    assert message.sender.trust is Trust.MEMBER
    (reply,) = await stage.answered(message)
    assert reply.kind is EffectKind.REPLY
    sending = Sending(lambda: len(stage.sink.taken))
    receipt = await stage.connector.deliver(reply, sending)
    assert isinstance(receipt, Sent)
    assert (sending.committed, sending.seen) == (1, 0)
    (taken,) = stage.sink.taken
    assert taken.recipients == ("bob@example.com",)
    assert parsed(taken.raw)["In-Reply-To"] == "<one@example.com>"
    (copy,) = await stage.filed("Sent")
    assert copy["Message-ID"] == receipt.ref
    assert copy.as_bytes() == parsed(taken.raw).as_bytes()
    assert await stage.connector.find(reply) == receipt
    (flags,) = await stage.flags()
    assert r"\Answered" in flags  # as a mail program shows it
    assert r"\Seen" not in flags  # no person has read it yet


async def test_a_strangers_mail_becomes_a_draft_and_nothing_leaves(stage: MailStage) -> None:
    message = await stage.heard(STRANGER)
    assert message.sender.trust is Trust.PUBLIC
    (draft,) = await stage.answered(message)
    assert draft.kind is EffectKind.DRAFT
    sending = Sending()
    receipt = await stage.connector.deliver(draft, sending)
    assert isinstance(receipt, Sent)
    assert sending.committed == 1
    (left,) = await stage.mails("Drafts")
    assert left["To"] == "eve@evil.org"
    assert left.get_content().strip() == "On Sundays."
    assert "\\Draft" in (await stage.flags("Drafts"))[0]
    assert r"\Answered" not in (await stage.flags())[0]  # that is for whoever sends the draft
    assert await stage.connector.find(draft) == receipt
    assert not stage.sink.taken


async def test_sorted_mail_bears_its_label_and_people_are_called(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with mail_stage(postbox, tmp_path, mode="triage") as stage:
        message = await stage.heard(STRANGER)
        verdict = '{"label": "complaint", "person": true, "note": "Eve is angry."}'
        for each in await stage.answered(message, text=verdict):
            assert isinstance(await stage.connector.deliver(each, Sending()), Sent)
            if each.kind is EffectKind.LABEL:
                assert isinstance(await stage.connector.find(each), Sent)
        (flags,) = await stage.flags()
        assert flags >= {"Triage/complaint", "Triage/needs-a-person"}
        assert "\\Seen" not in flags
        (told,) = stage.told.texts.values()
        assert "a mail needs a person" in told
        assert "Eve" not in told
        assert not stage.sink.taken
        assert not await stage.mails("Drafts")


async def test_an_answer_to_our_answer_finds_its_conversation(stage: MailStage) -> None:
    message = await stage.heard(raw())
    (new,) = await stage.composed(message)
    assert new.names
    receipt = await stage.connector.deliver(pending(new), Sending())
    assert isinstance(receipt, Sent)
    assert receipt.ref in new.names


# --- what must not be answered -------------------------------------------------------------------

LOOPS = [
    raw(("Auto-Submitted", "auto-replied"), message_id="<1@x>"),
    raw(("List-Id", "<news.example.com>"), message_id="<2@x>"),
    raw(sender="support@example.com", message_id="<3@x>"),
    raw(sender="mailer-daemon@example.com", message_id="<4@x>"),
    raw(("X-Loop", "postroom other@example.com"), message_id="<5@x>"),
    raw(("Precedence", "bulk"), message_id="<6@x>"),
]


async def test_the_loop_set_is_registered_and_ignored(stage: MailStage) -> None:
    await stage.until_ready()
    await stage.postbox.delivered(*LOOPS)
    await stage.intake.until(lambda: len(stage.intake.items) == len(LOOPS))
    assert stage.intake.outcomes == [Outcome.IGNORED] * len(LOOPS)


async def test_a_bounce_of_our_own_answer_is_ignored(stage: MailStage) -> None:
    """Dovecot's LMTP writes the empty envelope sender into Return-Path."""
    await stage.until_ready()
    await stage.postbox.delivered(raw(), sender="")
    await stage.intake.until(lambda: stage.intake.items)
    assert stage.intake.outcomes == [Outcome.IGNORED]


# --- quotas --------------------------------------------------------------------------------------


async def test_a_spent_quota_leaves_a_draft_and_tells_people(stage: MailStage) -> None:
    message = await stage.heard(raw())
    stage.outbox.sent = stage.table.max_replies_per_thread_daily
    draft, notice = await stage.answered(message)
    assert draft.kind is EffectKind.DRAFT
    assert isinstance(await stage.connector.deliver(notice, Sending()), Sent)
    assert list(stage.told.texts) == [notice.id]
    stage.outbox.sent -= 1
    (reply,) = await stage.answered(message)
    assert reply.kind is EffectKind.REPLY


async def test_both_quotas_are_counted_over_a_day(stage: MailStage) -> None:
    message = await stage.heard(raw())
    await stage.answered(message)
    thread, sender = stage.outbox.asked
    assert (thread[0], thread[2]) == (EffectKind.REPLY, message.conversation)
    assert (sender[0], sender[3]) == (EffectKind.REPLY, "mail:bob@example.com")


# --- sendings that are cut off -------------------------------------------------------------------


async def test_a_cut_after_data_is_found_in_sent_or_stays_unknown(stage: MailStage) -> None:
    (reply,) = await stage.answered(await stage.heard(raw()))
    stage.sink.script = deque(["die"])
    assert isinstance(await stage.connector.deliver(reply, Sending()), Unclear)
    assert await stage.connector.find(reply) is Sighting.UNKNOWN
    (taken,) = stage.sink.taken
    with stage.postbox.reader() as reader:  # as Gmail does: the server files a copy itself
        reader.append("Sent", "", "", taken.raw)
    assert isinstance(await stage.connector.find(reply), Sent)
    assert len(stage.sink.taken) == 1


async def test_a_copy_that_the_server_filed_is_not_filed_twice(stage: MailStage) -> None:
    (reply,) = await stage.answered(await stage.heard(raw()))
    await stage.connector.deliver(reply, Sending())
    with stage.postbox.reader() as reader:
        reader.append("Sent", "", "", stage.sink.taken[0].raw)
    kept = stage.data_dir / "sent" / "support"
    await eventually(lambda: not list(kept.glob("*.sent")))
    assert len(await stage.mails("Sent")) == 1


async def test_what_was_taken_before_a_crash_is_known_and_filed_after_it(
    postbox: Postbox, tmp_path: Path
) -> None:
    """Killed between the server's 250 and our commit of `sent`: not one mail is in doubt."""
    async with mail_stage(postbox, tmp_path, run=False) as stage:
        message = await listened(stage)
        (reply,) = await stage.answered(message)
        assert isinstance(await stage.connector.deliver(reply, Sending()), Sent)
        after = stage.restarted()
        found = await after.find(reply)
        assert isinstance(found, Sent)
        assert not await stage.mails("Sent")
        running = asyncio.create_task(after.run(stage.intake, lambda: None))
        (copy,) = await stage.filed("Sent")
        assert copy["Message-ID"] == found.ref
        assert r"\Answered" in (await stage.flags())[0]
        await stopped(running)
        await close(after)
        assert await stage.restarted().find(reply) == found  # by the copy, now


async def listened(stage: MailStage) -> Message:
    """A message heard by a first life of the connector, which has ended."""
    running = asyncio.create_task(stage.run())
    message = await stage.heard(raw())
    await stopped(running)
    return message


async def test_a_copy_that_is_refused_sends_nothing_again(stage: MailStage) -> None:
    (reply,) = await stage.answered(await stage.heard(raw()))
    await stage.mails("Sent")  # the folder is made when it is first looked at
    folder = stage.postbox.maildir / ".Sent" / "tmp"
    folder.chmod(0o500)
    assert isinstance(await stage.connector.deliver(reply, Sending()), Sent)
    await eventually(lambda: "no copy in Sent" in stage.connector.health().detail)
    health = stage.connector.health()
    assert (health.state, health.ready) == (HealthState.WARN, True)
    folder.chmod(0o700)
    await stage.filed("Sent")
    await eventually(lambda: stage.connector.health().state is HealthState.PASS)
    assert len(stage.sink.taken) == 1


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_draft_that_is_not_there_is_proven_absent_and_left_again(stage: MailStage) -> None:
    (draft,) = await stage.answered(await stage.heard(STRANGER))
    assert await stage.connector.find(draft) is Sighting.ABSENT
    await stage.connector.deliver(draft, Sending())
    assert isinstance(await stage.connector.find(draft), Sent)


async def test_a_draft_that_a_person_has_sent_is_found_in_sent(stage: MailStage) -> None:
    (draft,) = await stage.answered(await stage.heard(STRANGER))
    await stage.connector.deliver(draft, Sending())
    with stage.postbox.reader() as reader:
        reader.select("Drafts")
        reader.uid("COPY", "1", "Sent")
        reader.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
        reader.expunge()
    assert isinstance(await stage.connector.find(draft), Sent)


async def test_what_waits_when_sending_is_taken_away_becomes_a_draft(stage: MailStage) -> None:
    """The brake of whoever sees a mailbox answer nonsense: `mode = "draft"`, and a restart."""
    (reply,) = await stage.answered(await stage.heard(raw()))
    assert reply.kind is EffectKind.REPLY
    stage.table = stage.table.model_copy(update={"mode": "draft"})
    braked = stage.restarted()
    receipt = await braked.deliver(reply, Sending())
    assert isinstance(receipt, Sent)
    assert not stage.sink.taken
    (draft,) = await stage.mails("Drafts")
    assert draft["Auto-Submitted"] is None
    assert await braked.find(reply) == receipt


# --- labels --------------------------------------------------------------------------------------


async def test_a_mail_that_was_moved_away_needs_no_label(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, mode="triage") as stage:
        message = await stage.heard(STRANGER)
        (label,) = await stage.answered(message, text='{"label": "order"}')
        assert await stage.connector.find(label) is Sighting.ABSENT
        postbox.expunge([1])
        sending = Sending()
        assert isinstance(await stage.connector.deliver(label, sending), Sent)
        assert sending.committed == 0


async def test_a_label_finds_its_mail_after_the_folder_was_renumbered(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with mail_stage(postbox, tmp_path, mode="triage") as stage:
        message = await stage.heard(STRANGER)
        (label,) = await stage.answered(message, text='{"label": "order"}')
        folder, uidvalidity, uid, name = label.target["mails"][0]  # type: ignore[index]
        renumbered = replace(label, target={"mails": [[folder, uidvalidity + 1, uid + 5, name]]})
        assert isinstance(await stage.connector.deliver(renumbered, Sending()), Sent)
        assert "Triage/order" in (await stage.flags())[0]


# --- trouble -------------------------------------------------------------------------------------


async def test_a_kind_that_is_not_a_mailboxs_is_rejected(stage: MailStage) -> None:
    post = effect(EffectKind.POST, {"to": ["bob@example.com"]}, {"text": "x"})
    assert isinstance(await stage.connector.deliver(post, Sending()), Rejected)


async def test_a_notice_to_an_impossible_address_is_rejected(stage: MailStage) -> None:
    notice = pending(stage.connector.compose_notice("key", "nobody", "A mail needs a person."))
    assert isinstance(await stage.connector.deliver(notice, Sending()), Rejected)
    good = pending(stage.connector.compose_notice("key", "ops@example.com", "A mail needs you."))
    assert isinstance(await stage.connector.deliver(good, Sending()), Sent)
    assert stage.sink.taken[0].recipients == ("ops@example.com",)


async def test_an_smtp_server_that_is_away_stops_no_mail_from_coming_in(stage: MailStage) -> None:
    (reply,) = await stage.answered(await stage.heard(raw()))
    await stage.sink.stop()
    assert isinstance(await stage.connector.deliver(reply, Sending()), NotNow)
    health = stage.connector.health()
    assert (health.state, health.ready) == (HealthState.WARN, True)
    assert "SMTP" in health.detail
    second = await stage.heard(raw(message_id="<two@example.com>"))
    assert second.names == ("<two@example.com>",)
    await stage.sink.start()
    await asyncio.sleep(0.2)
    assert isinstance(await stage.connector.deliver(reply, Sending()), Sent)
    assert stage.connector.health().state is HealthState.PASS


async def test_a_wrong_imap_password_parks_the_connector(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False, password="wrong") as stage:
        with pytest.raises(AuthenticationFailed):
            async with asyncio.timeout(PATIENCE):
                await stage.connector.run(RecordingIntake(), lambda: None)
        health = stage.connector.health()
        assert (health.state, health.ready) == (HealthState.FAIL, False)
        assert "wrong" not in health.detail
        draft = effect(
            EffectKind.DRAFT,
            {"to": []},
            {"from": "support@example.com", "message_id": "<a@b>", "subject": "x", "text": "y"},
        )
        assert isinstance(await stage.connector.deliver(draft, Sending()), NotNow)


async def test_answers_are_still_filed_while_the_daemon_drains(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with mail_stage(postbox, tmp_path, run=False) as stage:
        running = asyncio.create_task(stage.run())
        message = await stage.heard(STRANGER)
        await stopped(running)
        (draft,) = await stage.answered(message)
        assert isinstance(await stage.connector.deliver(draft, Sending()), Sent)
        assert len(await stage.mails("Drafts")) == 1


async def test_without_smtp_no_notice_is_promised(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False, smtp=None, mode="draft") as stage:
        assert isinstance(stage.connector, ImapConnector)
        assert stage.connector.scheme != "mail"
