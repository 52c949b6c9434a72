"""What leaves: to whom, as what, and byte for byte the same each time."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest

from connectors.imap.inbound import read
from connectors.imap.outbound import answering_subject, compose, compose_notice, describe, envelope
from daemon.model import (
    Answer,
    ConversationId,
    Effect,
    EffectKind,
    EffectState,
    Message,
    NewEffect,
    Trust,
    TurnId,
)
from tests.mails import OPERATORS, fetched, proof, raw, table

CONVERSATION = ConversationId("mail:support:INBOX:1700:7")
DAY = 20_000


def heard(data: bytes, **keys: Any) -> Message:
    item = read("support", fetched(data), table(**keys), OPERATORS, None)
    assert isinstance(item, Message)
    return item


def answer(*messages: Message, text: str = "On Sundays.", **more: Any) -> Answer:
    trust = min((m.sender.trust or Trust.PUBLIC for m in messages), key=lambda label: label.rank)
    values: dict[str, Any] = {
        "key": "turn-1/answer",
        "conversation": CONVERSATION,
        "connector": "support",
        "trust": trust,
        "messages": messages,
        "text": text,
        "turn": TurnId("turn-1"),
    }
    return Answer(**values | more)


def composed(*data: bytes, text: str = "On Sundays.", spent: str = "", **keys: Any) -> list[Any]:
    messages = [heard(each, **keys) for each in data]
    return list(compose(answer(*messages, text=text), table(**keys), spent=spent, day=DAY))


def pending(new: NewEffect, created_at: float = 1_800_000_000.0) -> Effect:
    return Effect(
        new.id, new.connector, new.conversation, new.kind, new.target, new.body,
        EffectState.PENDING, created_at,
    )  # fmt: skip


def mail_of(new: NewEffect) -> EmailMessage:
    """The mail as a strict reader sees it."""
    raw_mail = envelope(pending(new)).raw
    assert b"\n" not in raw_mail.replace(b"\r\n", b"")
    assert max(len(line) for line in raw_mail.split(b"\r\n")) <= 998  # RFC 5322 2.1.1
    found = email.message_from_bytes(raw_mail, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


# --- as what, and to whom ------------------------------------------------------------------------

STRANGER = raw(sender="eve@evil.org", proven=False)


@pytest.mark.parametrize(
    ("data", "keys", "kinds"),
    [
        (raw(), {}, ["reply"]),
        (raw(), {"mode": "draft"}, ["draft"]),
        (raw(), {"mode": "triage"}, ["label"]),
        (STRANGER, {}, ["draft"]),
        (STRANGER, {"mode": "draft"}, ["draft"]),
        (STRANGER, {"mode": "triage"}, ["label"]),
        (raw(sender="boss@example.com"), {"allow": []}, ["reply"]),
        (raw(), {"authserv_id": None}, ["draft"]),
        (raw(("Reply-To", "eve@evil.org")), {}, ["draft"]),
    ],
)
def test_mode_and_trust_decide_what_an_answer_becomes(
    data: bytes, keys: dict[str, Any], kinds: list[str]
) -> None:
    assert [effect.kind.value for effect in composed(data, **keys)] == kinds


def test_a_member_in_a_public_conversation_gets_a_draft() -> None:
    """The session has read what strangers wrote: its text does not leave alone."""
    (effect,) = compose(answer(heard(raw()), trust=Trust.PUBLIC), table(), spent="", day=DAY)
    assert effect.kind is EffectKind.DRAFT


def test_one_mail_that_waits_for_a_person_holds_the_whole_answer() -> None:
    plain, diverted = raw(), raw(("Reply-To", "eve@evil.org"), message_id="<two@example.com>")
    for order in ((plain, diverted), (diverted, plain)):
        assert [effect.kind for effect in composed(*order)] == [EffectKind.DRAFT]


@pytest.mark.parametrize("mode", ["triage", "draft", "reply"])
def test_the_daemons_own_sentences_go_to_nobody_outside(mode: str) -> None:
    said = answer(heard(raw(), mode=mode), text="I can't reach the model.", final=False)
    assert compose(said, table(mode=mode), spent="", day=DAY) == ()


def test_nobody_but_the_sender_is_answered_whatever_the_text_says() -> None:
    data = raw(("Cc", "list@elsewhere.org"), ("Bcc", "x@elsewhere.org"))
    (effect,) = composed(data, text="To: eve@evil.org\nBcc: eve@evil.org\n\nSend it to Eve.")
    assert envelope(pending(effect)).recipients == ("bob@example.com",)
    mail = mail_of(effect)
    assert mail["To"] == "bob@example.com"
    assert mail["Cc"] is None
    assert mail["Bcc"] is None


def test_all_who_wrote_in_the_turn_are_answered_once() -> None:
    ann = raw(sender="ann@example.com", message_id="<two@example.com>")
    (effect,) = composed(raw(), ann, raw(message_id="<three@example.com>"))
    assert envelope(pending(effect)).recipients == ("bob@example.com", "ann@example.com")
    assert mail_of(effect)["In-Reply-To"] == "<three@example.com>"


def test_a_draft_goes_where_a_mail_program_would_answer() -> None:
    (effect,) = composed(raw(("Reply-To", "form@elsewhere.org"), proven=False), mode="draft")
    assert mail_of(effect)["To"] == "form@elsewhere.org"


def test_an_exotic_address_is_left_to_the_person() -> None:
    (effect,) = composed(raw(sender="j\u00fcrgen@example.com", proven=False), mode="draft")
    assert mail_of(effect)["To"] is None


def test_a_spent_quota_leaves_a_draft_and_tells_people_once_a_day() -> None:
    draft, notice = composed(raw(), spent="20 replies today to the conversation c")
    assert draft.kind is EffectKind.DRAFT
    assert notice.kind is EffectKind.NOTICE
    assert "20 replies today" in str(notice.body["text"])
    again = list(
        compose(
            answer(heard(raw()), key="turn-2/answer"),
            table(),
            spent="20 replies today to the conversation c",
            day=DAY,
        )
    )
    assert again[1].id == notice.id  # the outbox keeps one
    assert again[0].id != draft.id


def test_a_quota_is_nothing_to_a_draft() -> None:
    effects = composed(STRANGER, spent="20 replies today to the conversation c")
    assert [effect.kind for effect in effects] == [EffectKind.DRAFT]


def test_a_sorted_mail_is_labelled_and_a_person_called_where_the_agent_says_so() -> None:
    effects = composed(STRANGER, mode="triage", text='{"label": "complaint", "person": true}')
    assert [effect.kind.value for effect in effects] == ["label", "label", "notice"]
    assert [effect.body.get("keyword") for effect in effects] == [
        "Triage/complaint",
        "Triage/needs-a-person",
        None,
    ]
    assert effects[2].target == {"people": True}


# --- the mail itself -----------------------------------------------------------------------------


def test_an_answer_carries_all_that_threads_and_loops_need() -> None:
    data = raw(("References", "<zero@example.com>"), ("In-Reply-To", "<zero@example.com>"))
    (effect,) = composed(data)
    mail = mail_of(effect)
    assert mail["From"] == "support@example.com"
    assert mail["To"] == "bob@example.com"
    assert mail["Subject"] == "Re: Opening hours"
    assert mail["Message-ID"] == f"<{effect.id}@example.com>"
    assert effect.names == (mail["Message-ID"],)
    assert mail["In-Reply-To"] == "<one@example.com>"
    assert mail["References"] == "<zero@example.com> <one@example.com>"
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["X-Loop"] == "postroom support@example.com"
    assert mail["Date"].datetime.timestamp() == 1_800_000_000.0
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content_charset() == "utf-8"
    assert mail.get_content().strip() == "On Sundays."


def test_a_draft_is_a_persons_mail_and_not_marked_as_a_machines() -> None:
    (effect,) = composed(raw(), mode="draft")
    mail = mail_of(effect)
    assert mail["Auto-Submitted"] is None
    assert mail["X-Loop"] is None
    assert mail["In-Reply-To"] == "<one@example.com>"


def test_the_same_effect_gives_the_same_bytes() -> None:
    (first,), (second,) = composed(raw()), composed(raw())
    assert first == second
    assert envelope(pending(first)) == envelope(pending(second))
    sending = replace(pending(first), state=EffectState.SENDING, attempts=3)
    assert envelope(sending).raw == envelope(pending(first)).raw


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, 你好, \N{WAVING HAND SIGN}",
        ".\n..\n.hidden\nFrom here on",
        "a very long line " * 200,
        "trailing space \nand = signs =20",
        "> quoted\n\n-- \nThe agent",
        "lone \ud800 half",
    ],
)
def test_any_text_arrives_as_it_was_written(text: str) -> None:
    (effect,) = composed(raw(), text=text)
    expected = text.encode("utf-8", "replace").decode().rstrip()
    assert mail_of(effect).get_content().replace("\r\n", "\n").rstrip() == expected


@pytest.mark.parametrize(
    ("subject", "answered"),
    [
        ("Opening hours", "Re: Opening hours"),
        ("Re: Opening hours", "Re: Opening hours"),
        ("RE: re: AW: Sv: Antw: Opening hours", "Re: Opening hours"),
        ("Re[2]: Opening hours", "Re: Opening hours"),
        ("Regarding: hours", "Re: Regarding: hours"),
        ("Fwd: hours", "Re: Fwd: hours"),
        ("", "Re:"),
        ("a\r\nBcc: eve@evil.org", "Re: a Bcc: eve@evil.org"),
        ("x" * 500, f"Re: {'x' * 196}"),
    ],
)
def test_a_subject_has_one_re(subject: str, answered: str) -> None:
    assert answering_subject(subject) == answered


def test_a_long_subject_of_any_script_is_read_back() -> None:
    subject = "Grüße und eine lange Frage zu 你好世界 " * 5
    (effect,) = composed(raw(subject=subject))
    assert mail_of(effect)["Subject"] == answering_subject(" ".join(subject.split()))


def test_long_message_ids_stay_what_they_are() -> None:
    """The modern policy of the email package makes encoded words of them."""
    parent, first = f"<{'p' * 250}@example.com>", f"<{'f' * 250}@example.com>"
    (effect,) = composed(raw(("References", first), message_id=parent))
    raw_mail = envelope(pending(effect)).raw.decode()
    assert f"In-Reply-To: {parent}\r\n" in raw_mail
    assert f"References: {first} {parent}\r\n" in raw_mail


def test_a_mail_without_a_message_id_is_answered_without_references() -> None:
    (effect,) = composed(raw(message_id=""))
    mail = mail_of(effect)
    assert mail["In-Reply-To"] is None
    assert mail["References"] is None


def test_a_notice_says_that_a_machine_wrote_it() -> None:
    new = compose_notice(
        table(), "support", "key", "Ops@example.com", "A mail\rneeds a person.\nMore."
    )
    mail = mail_of(new)
    assert new.kind is EffectKind.NOTICE
    assert mail["To"] == "ops@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Loop"] == "postroom support@example.com"
    assert mail["Subject"] == "[Postroom] A mail needs a person."
    assert compose_notice(table(), "support", "key", "Ops@example.com", "other").id == new.id


@pytest.mark.parametrize("mode", ["draft", "reply"])
def test_a_person_who_looks_for_an_answer_knows_what_to_look_at(mode: str) -> None:
    hostile = "See [here](https://evil.example) `now`"
    (effect,) = composed(raw(subject=hostile), mode=mode)
    what = {"draft": "the draft", "reply": "the answer"}[mode]
    assert describe(pending(effect)) == (
        f"{what} `Re: See [here](https://evil.example) 'now'` to `bob@example.com` "
        "on the mail `one@example.com`"
    )


def test_a_label_is_told_by_its_word_and_the_mails_place() -> None:
    effect, *_ = composed(raw(), mode="triage", text='{"label": "order"}')
    assert describe(pending(effect)) == "the label `Triage/order` on `INBOX:1700:7`"


# --- two of us -----------------------------------------------------------------------------------


def test_two_mailboxes_that_write_to_each_other_stop_at_once() -> None:
    (effect,) = composed(raw())
    ours = envelope(pending(effect)).raw
    arrived = f"Authentication-Results: {proof()}\r\n".encode() + ours.replace(
        b"To: bob@example.com", b"To: other@example.com"
    )
    item = read("other", fetched(arrived), table(address="other@example.com"), OPERATORS, None)
    assert not isinstance(item, Message)
    stripped = arrived.replace(b"Auto-Submitted: auto-replied\r\n", b"")
    item = read("other", fetched(stripped), table(address="other@example.com"), OPERATORS, None)
    assert not isinstance(item, Message)
