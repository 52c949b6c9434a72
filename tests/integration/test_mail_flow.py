"""Mail through the whole flow: a real ledger, Dovecot and SMTP; only the agents are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.agents.scripted import Say, Use
from tests.dovecot import Postbox
from tests.integration.mail_flow import mail_flow, mailbox, settled
from tests.integration.mail_stage import PATIENCE, parsed
from tests.mails import proof, raw
from tests.smtp_sink import SmtpSink, Taken

pytestmark = pytest.mark.dovecot


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    async with SmtpSink() as started:
        yield started


def arriving(postbox: Postbox) -> Callable[[Taken], None]:
    """As a receiving server does: its own results on top, then the mailbox."""

    def deliver(taken: Taken) -> None:
        results = f"Authentication-Results: {proof()}\r\n"
        postbox.deliver(results.encode() + taken.raw, sender=taken.sender)

    return deliver


async def test_a_thread_is_one_conversation_and_each_mail_is_answered_once(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        flow.agents.script = lambda _prompt: [Say("On Sundays.")]
        await postbox.delivered(raw())
        await sink.until(lambda: sink.taken)
        ours = parsed(sink.taken[0].raw)
        again = raw(
            ("In-Reply-To", ours["Message-ID"]),
            ("References", f"{ours['References']} {ours['Message-ID']}"),
            message_id="<two@example.com>",
            subject="Re: Opening hours",
        )
        await postbox.delivered(again)
        await sink.until(lambda: len(sink.taken) == 2)
        await settled(flow, 2)
        (conversation,) = await flow.ledger.conversations(10)
        assert conversation["trust"] == "member"
        second = parsed(sink.taken[1].raw)
        assert second["In-Reply-To"] == "<two@example.com>"
        assert second["Subject"] == "Re: Opening hours"
        assert ours["Message-ID"] in second["References"]


async def test_a_stranger_in_a_members_thread_gets_a_conversation_and_a_draft(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        flow.agents.script = lambda _prompt: [Say("On Sundays.")]
        await postbox.delivered(raw())
        await sink.until(lambda: sink.taken)
        stranger = raw(
            ("References", "<one@example.com>"),
            sender="eve@evil.org",
            message_id="<eve@evil.org>",
            proven=False,
        )
        await postbox.delivered(stranger)
        await settled(flow, 2)
        trusts = sorted(str(each["trust"]) for each in await flow.ledger.conversations(10))
        assert trusts == ["member", "public"]
        assert len(sink.taken) == 1
        (draft,) = await asyncio.to_thread(postbox.mails, "Drafts")
        assert parsed(draft)["To"] == "eve@evil.org"


async def test_two_of_our_mailboxes_that_write_to_each_other_stop(
    dovecot: Any, tmp_path: Path
) -> None:
    """Each may be answered, each is proven, and each would answer all that it is sent."""
    boxes = {name: Postbox(dovecot, f"{name}-{tmp_path.name}@example.test") for name in "ab"}
    async with SmtpSink() as from_a, SmtpSink() as from_b:
        from_a.deliver, from_b.deliver = arriving(boxes["b"]), arriving(boxes["a"])
        tables = {
            "a": mailbox(boxes["a"], from_a, address="a@example.com", aliases=[]),
            "b": mailbox(boxes["b"], from_b, address="b@example.com", aliases=[]),
        }
        async with mail_flow(tmp_path, **tables) as flow:
            flow.agents.script = lambda _prompt: [Say("And what do you say?")]
            await boxes["a"].delivered(raw(sender="b@example.com", to="a@example.com"))
            await from_a.until(lambda: from_a.taken)
            heard = 0.0
            async with asyncio.timeout(PATIENCE):
                while heard < 1:  # b has registered it, and ignores it
                    await asyncio.sleep(0.02)
                    samples = flow.metrics.messages_received.labels("b", "ignored")
                    heard = samples._value.get()
            await settled(flow, 1)
            assert (len(from_a.taken), len(from_b.taken)) == (1, 0)
            assert len(flow.agents.prompts) == 1


async def test_people_are_told_of_an_answer_that_came_back(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        flow.agents.script = lambda _prompt: [Say("On Sundays.")]
        await postbox.delivered(raw())
        await sink.until(lambda: sink.taken)
        bounce = (
            b"From: MAILER-DAEMON@example.com\r\nTo: support@example.com\r\n"
            b"Message-ID: <bounce@example.com>\r\n"
            b'Content-Type: multipart/report; boundary="b"\r\n\r\n'
            b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
            b"Final-Recipient: rfc822; bob@example.com\r\nAction: failed\r\n\r\n"
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + sink.taken[0].raw + b"\r\n--b--\r\n"
        )
        await postbox.delivered(bounce, sender="")
        await flow.until(lambda: bool(flow.told), PATIENCE)
        await settled(flow, 1)
        effect = parsed(sink.taken[0].raw)["Message-ID"].strip("<>").partition("@")[0]
        assert f"postroom trace {effect}" in flow.told[0]
        assert await flow.ledger.trace(effect) is not None
        assert len(sink.taken) == 1


async def test_a_threads_quota_is_kept_by_the_ledger(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    limited = mailbox(postbox, sink, max_replies_per_thread_daily=1)
    async with mail_flow(tmp_path, support=limited) as flow:
        flow.agents.script = lambda _prompt: [Say("On Sundays.")]
        await postbox.delivered(raw())
        await sink.until(lambda: sink.taken)
        for number in (2, 3):
            name = f"<{number}@example.com>"
            await postbox.delivered(raw(("In-Reply-To", "<one@example.com>"), message_id=name))
            await settled(flow, number)
        assert len(sink.taken) == 1
        assert len(await asyncio.to_thread(postbox.mails, "Drafts")) == 2
        (told,) = flow.told
        assert "1 replies today" in told


async def test_a_label_and_a_call_for_a_person_go_with_the_answer(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        flow.agents.script = lambda _prompt: [
            Use("label", {"label": "complaint"}),
            Use("escalate", {"reason": "decision"}),
            Say("I have asked a colleague."),
        ]
        await postbox.delivered(raw())
        await settled(flow, 1)
        assert len(sink.taken) == 1
        assert "needs a decision" in flow.told[0]

        def labelled() -> bytes:
            with postbox.reader() as reader:
                reader.select("INBOX", readonly=True)
                found = reader.uid("SEARCH", "KEYWORD", "Triage/complaint")[1][0]
                assert isinstance(found, bytes)
                return found

        assert await asyncio.to_thread(labelled) == b"1"
