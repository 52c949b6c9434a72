"""What a fetched mail means: a message, in which conversation, and what may come of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.imap.inbound import ancestors, read, reader
from connectors.imap.mail import Mail
from daemon.model import (
    ConversationId,
    Ignored,
    KnownConversation,
    Message,
    Trust,
)
from tests.fakes import RecordingIntake
from tests.integration.mail_stage import Told
from tests.mails import OPERATORS, fetched, proof, raw, table

STRANGER = "eve@evil.org"


def message(data: bytes, known: KnownConversation | None = None, **keys: object) -> Message:
    item = read("support", fetched(data), table(**keys), OPERATORS, known)
    assert isinstance(item, Message), item
    return item


def ignored(data: bytes, **keys: object) -> str:
    item = read("support", fetched(data), table(**keys), OPERATORS, None)
    assert isinstance(item, Ignored), item
    return item.reason


def conversation(trust: Trust, *participants: str) -> KnownConversation:
    return KnownConversation(
        ConversationId("mail:support:INBOX:1700:1"),
        "support",
        trust,
        frozenset(f"mail:{one}" for one in participants),
    )


def joins(data: bytes, known: KnownConversation) -> bool:
    return message(data, known).conversation == known.id


# --- a message -----------------------------------------------------------------------------------


def test_a_mail_becomes_a_message_with_all_that_an_answer_needs() -> None:
    got = message(raw(("References", "<zero@example.com>")))
    assert got.outside_id == "INBOX:1700:7"
    assert got.alternate_id is not None
    assert got.alternate_id.startswith("<one@example.com> ")
    assert got.conversation == "mail:support:INBOX:1700:7"
    assert (got.sender.id, got.sender.name) == ("mail:bob@example.com", "Bob")
    assert got.sender.trust is Trust.MEMBER
    assert got.subject == "Opening hours"
    assert got.names == ("<one@example.com>",)
    assert got.raw == "raw/support/ab/abc.eml"
    assert got.target == {
        "mail": ["INBOX", 1700, 7, "<one@example.com>"],
        "to": "bob@example.com",
        "references": ["<zero@example.com>", "<one@example.com>"],
        "hold": "",
    }
    json.dumps(dict(got.target))


def test_the_agent_reads_the_text_and_what_it_quotes_apart() -> None:
    text = "And on Sundays?\r\n\r\nOn Friday Ann wrote:\r\n> We open at nine."
    lines = message(raw(text=text)).text.splitlines()
    assert lines.index("And on Sundays?") < lines.index("[What it quotes:]")
    assert "> We open at nine." in lines[lines.index("[What it quotes:]") :]


def test_the_agent_is_told_what_its_answer_becomes() -> None:
    assert "is sent to its sender" in message(raw()).text
    assert "becomes a draft" in message(raw(), mode="draft").text
    assert "becomes a draft" in message(raw(proven=False)).text
    assert "only to be sorted" in message(raw(), mode="triage").text


def test_a_strangers_text_is_marked_as_one() -> None:
    assert "not known to us" in message(raw(proven=False)).text
    assert "not known to us" not in message(raw()).text


def test_attachments_are_named_and_not_shown() -> None:
    data = (
        b"From: bob@example.com\r\nTo: support@example.com\r\nMessage-ID: <a@example.com>\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nSee the file.\r\n'
        b'--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="p.pdf"'
        b"\r\nContent-Transfer-Encoding: base64\r\n\r\nSECRETWORD==\r\n--b--\r\n"
    )
    got = message(data)
    assert [(file.name, file.media_type) for file in got.attachments] == [
        ("p.pdf", "application/pdf")
    ]
    assert "SECRETWORD" not in got.text


def test_what_was_noted_while_reading_is_said() -> None:
    assert "hidden characters" in message(raw(text="Pay\u200b now")).text


def test_a_mail_that_was_too_large_says_so() -> None:
    small = fetched(raw())
    large = Mail(
        small.folder, small.uidvalidity, small.uid, small.flags, 45_000_000, small.arrived,
        small.parsed, small.raw_path, too_large=True,
    )  # fmt: skip
    got = read("support", large, table(), OPERATORS, None)
    assert isinstance(got, Message)
    assert "45000000 bytes" in got.text


def test_a_mail_without_an_author_is_ignored() -> None:
    assert "no author" in ignored(raw(sender=""))


def test_a_members_mail_in_a_public_conversation_waits_for_a_person() -> None:
    """What strangers wrote there has shaped the agent's answer."""
    got = message(raw(), conversation(Trust.PUBLIC, "bob@example.com"))
    assert "strangers" in str(got.target["hold"])
    assert "becomes a draft" in got.text


# --- what may come of it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys", "why"),
    [
        (raw(), {"mode": "draft"}, "draft"),
        (raw(), {"mode": "triage"}, "triage"),
        (raw(proven=False), {}, "R8"),
        (raw(("Authentication-Results", proof(result="fail")), proven=False), {}, "R8"),
        (raw(), {"authserv_id": None}, "R8"),
        (raw(), {"allow": ["*@other.example"]}, "R8"),
        (raw(to="everybody@example.com"), {}, "R7"),
        (raw(("Reply-To", STRANGER)), {}, "another address"),
        (raw(("Reply-To", "team@example.com")), {"allow": ["bob@example.com"]}, "another address"),
        (raw(("Reply-To", "a@example.com, b@example.com")), {}, "another address"),
        (raw(("Reply-To", "bob@example.com")), {}, ""),
        (raw(("Reply-To", "team@example.com")), {}, ""),
        (raw(sender="boss@example.com"), {"allow": []}, ""),
    ],
)
def test_an_answer_leaves_alone_only_through_all_the_gates(
    data: bytes, keys: dict[str, Any], why: str
) -> None:
    hold = str(message(data, **keys).target["hold"])
    assert why in hold
    assert bool(why) == bool(hold)


NEWSLETTER = raw(("List-Id", "<news.example.com>"))
BLIND_COPY = raw(to="everybody@example.com", proven=False)


@pytest.mark.parametrize("mode", ["draft", "reply"])
def test_a_newsletter_costs_nothing_where_mail_is_answered(mode: str) -> None:
    assert ignored(NEWSLETTER, mode=mode).startswith("R3")
    assert ignored(BLIND_COPY, mode=mode).startswith("R7")


def test_a_newsletter_is_sorted_where_mail_is_sorted() -> None:
    assert message(NEWSLETTER, mode="triage").target["hold"]
    assert message(BLIND_COPY, mode="triage").target["hold"]


@pytest.mark.parametrize("mode", ["triage", "draft", "reply"])
def test_a_machines_response_is_ignored_in_every_mode(mode: str) -> None:
    assert ignored(raw(("Auto-Submitted", "auto-replied")), mode=mode).startswith("R2")


# --- where it belongs ----------------------------------------------------------------------------


def test_a_participant_goes_on_in_the_conversation() -> None:
    assert joins(raw(), conversation(Trust.MEMBER, "bob@example.com"))


def test_a_colleague_of_a_participant_may_enter() -> None:
    assert joins(raw(), conversation(Trust.MEMBER, "ann@example.com"))


def test_a_stranger_with_a_known_message_id_gets_a_conversation_of_their_own() -> None:
    data = raw(("References", "<known@example.com>"), sender=STRANGER, proven=False)
    for trust in Trust:
        assert not joins(data, conversation(trust, "bob@example.com"))


def test_a_forged_participant_does_not_enter_a_members_conversation() -> None:
    assert not joins(raw(proven=False), conversation(Trust.MEMBER, "bob@example.com"))


def test_a_member_does_not_enter_an_operators_conversation_at_a_lower_label() -> None:
    assert not joins(raw(), conversation(Trust.OPERATOR, "bob@example.com"))


def test_an_operator_enters_a_members_conversation_at_its_label() -> None:
    boss = raw(sender="boss@example.com")
    assert joins(boss, conversation(Trust.MEMBER, "bob@example.com"))


def test_strangers_of_one_provider_do_not_meet() -> None:
    data = raw(sender="eve@free.example", proven=False)
    assert not joins(data, conversation(Trust.PUBLIC, "ann@free.example"))


def test_a_domain_is_compared_as_a_whole() -> None:
    assert not joins(raw(), conversation(Trust.MEMBER, "ann@notexample.com"))


def test_a_stranger_goes_on_in_their_own_conversation() -> None:
    data = raw(sender=STRANGER, proven=False)
    assert joins(data, conversation(Trust.PUBLIC, STRANGER))


def test_who_borrows_a_strangers_address_cannot_divert_the_answers() -> None:
    data = raw(("Reply-To", "thief@elsewhere.org"), sender=STRANGER, proven=False)
    assert not joins(data, conversation(Trust.PUBLIC, STRANGER))


def test_the_nearest_ancestor_comes_first() -> None:
    data = raw(
        ("In-Reply-To", "<c@example.com>"),
        ("References", "<a@example.com> <b@example.com> <c@example.com> <one@example.com>"),
    )
    assert ancestors(fetched(data).parsed) == (
        "<c@example.com>",
        "<b@example.com>",
        "<a@example.com>",
    )


async def test_a_sender_finds_the_nearest_conversation_that_they_may_enter() -> None:
    """Bob answers a stranger's mail in his own thread: he stays in his."""
    his, theirs = conversation(Trust.MEMBER, "bob@example.com"), conversation(Trust.PUBLIC, "x@y.z")
    intake = RecordingIntake(conversations={"<b@example.com>": his, "<x@y.z>": theirs})
    data = raw(("In-Reply-To", "<x@y.z>"), ("References", "<b@example.com> <x@y.z>"))
    item = await reader("support", table(), OPERATORS, Told().tell)(fetched(data), intake)
    assert isinstance(item, Message)
    assert item.conversation == his.id


async def test_a_subject_alone_joins_nothing() -> None:
    known = conversation(Trust.MEMBER, "bob@example.com")
    intake = RecordingIntake(conversations={"<other@example.com>": known})
    read_mail = reader("support", table(), OPERATORS, Told().tell)
    item = await read_mail(fetched(raw(subject="Re: Opening hours")), intake)
    assert isinstance(item, Message)
    assert item.conversation != known.id


def test_the_references_of_an_answer_keep_the_threads_first_and_its_last() -> None:
    chain = [f"<{number:03}-{'x' * 60}@example.com>" for number in range(80)]
    got = message(raw(("References", " ".join(chain)))).target["references"]
    assert isinstance(got, list)
    assert got[0] == chain[0]
    assert got[-2:] == [chain[-1], "<one@example.com>"]
    assert len(" ".join(got)) < 998 - len("References: ")


# --- what comes back -----------------------------------------------------------------------------

OURS = "<eff-0123@example.com>"


def report(action: str, original: str) -> bytes:
    return (
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@example.com\r\nTo: support@example.com\r\n"
        "Auto-Submitted: auto-replied\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\n\r\nIt did not arrive.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx\r\n\r\n"
        f"Final-Recipient: rfc822; bob@example.com\r\nAction: {action}\r\nStatus: 5.1.1\r\n"
        f"--b\r\n{original}--b--\r\n"
    ).encode()


WHOLE = f"Content-Type: message/rfc822\r\n\r\nSubject: x\r\nMessage-ID: {OURS}\r\n\r\nbody\r\n"
HEADERS = f"Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\nMessage-Id: {OURS}\r\n"


@pytest.mark.parametrize("original", [WHOLE, HEADERS])
async def test_people_are_told_once_of_an_answer_that_came_back(original: str) -> None:
    told = Told()
    ours = conversation(Trust.MEMBER, "bob@example.com")
    intake = RecordingIntake(conversations={OURS: ours})
    read_mail = reader("support", table(), OPERATORS, told.tell)
    for _ in range(2):
        item = await read_mail(fetched(report("failed", original)), intake)
        assert isinstance(item, Ignored)
    ((key, text),) = told.texts.items()
    assert key.startswith("eff-0123")
    assert "postroom trace eff-0123" in text
    assert "bob" not in text


@pytest.mark.parametrize(
    "data",
    [
        report("delayed", WHOLE),
        report("delivered", WHOLE),
        report("failed", WHOLE.replace("eff-0123", "somebody-elses")),
        report("failed", "Content-Type: message/rfc822\r\n\r\n"),
        report("failed", "Content-Type: text/rfc822-headers\r\n\r\n\xff"),
    ],
)
async def test_other_reports_are_nobodys_business(data: bytes) -> None:
    told = Told()
    ours = conversation(Trust.MEMBER, "bob@example.com")
    intake = RecordingIntake(conversations={OURS: ours})
    await reader("support", table(), OPERATORS, told.tell)(fetched(data), intake)
    assert not told.texts


# --- anything at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["triage", "draft", "reply"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\xff\xfe\x00",
        b"From:\r\n\r\n",
        b"From: <>\r\nTo: <>\r\nMessage-ID: <>\r\n\r\nx",
        b"From: a@b.c\r\nSubject: =?utf-8?b?//8=?=\r\n\r\n\x00",
        b"From: a@b.c\r\nReferences: " + b"<x@y> " * 5000 + b"\r\n\r\n",
        b"From: " + b"(" * 3000 + b"\r\n\r\n",
    ],
)
def test_no_mail_is_too_odd(mode: str, data: bytes) -> None:
    item = read("support", fetched(data), table(mode=mode), OPERATORS, None)
    assert item.outside_id == "INBOX:1700:7"
