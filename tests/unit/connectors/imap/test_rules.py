"""What must never be answered, mail by mail."""

from __future__ import annotations

import pytest

from connectors.imap.rules import addressed_to_us, objection
from tests.mails import fetched, raw, table

REPORT = (
    b"From: x@example.com\r\nTo: support@example.com\r\n"
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nIt could not be delivered.\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n--b--\r\n"
)


def rule(data: bytes, *flags: str) -> str:
    found = objection(fetched(data, flags=frozenset(flags)), table())
    return found.rule if found else ""


def sortable(data: bytes, *flags: str) -> bool:
    found = objection(fetched(data, flags=frozenset(flags)), table())
    assert found is not None
    return found.sortable


def test_a_persons_mail_breaks_no_rule() -> None:
    assert rule(raw()) == ""


@pytest.mark.parametrize(
    ("field", "value", "broken"),
    [
        ("Return-Path", "<>", "R1"),
        ("Return-Path", " < > ", "R1"),
        ("Return-Path", "<MAILER-DAEMON@mx.example.com>", "R1"),
        ("Return-Path", "<bob@example.com>", ""),
        ("Return-Path", "<bounce+123@esp.example>", ""),
        ("Auto-Submitted", "auto-replied", "R2"),
        ("Auto-Submitted", "Auto-Generated", "R2"),
        ("Auto-Submitted", 'auto-notified; owner-email="a@b.c"', "R2"),
        ("Auto-Submitted", "(a comment) no", "R2"),
        ("Auto-Submitted", "no", ""),
        ("Auto-Submitted", "No (really)", ""),
        ("List-Id", "<news.example.com>", "R3"),
        ("List-Unsubscribe", "<mailto:off@example.com>", "R3"),
        ("Precedence", "bulk", "R3"),
        ("Precedence", "LIST", "R3"),
        ("Precedence", "junk", "R3"),
        ("Precedence", "first-class", ""),
        ("X-Auto-Response-Suppress", "DR, OOF, AutoReply", "R5"),
        ("X-Auto-Response-Suppress", "None", ""),
        ("X-Autoreply", "yes", "R5"),
        ("X-Autorespond", "out of office", "R5"),
        ("Feedback-ID", "1:campaign:esp", "R5"),
        ("X-Loop", "postroom other@elsewhere.org", "R6"),
        ("X-Loop", "support@example.com", "R6"),
        ("X-Loop", "someone@elsewhere.org", ""),
        ("Reply-To", "no-reply@example.com", "R4"),
    ],
)
def test_a_field_that_forbids_an_answer(field: str, value: str, broken: str) -> None:
    assert rule(raw((field, value))) == broken


@pytest.mark.parametrize(
    ("local", "broken"),
    [
        ("no-reply", "R4"),
        ("NoReply", "R4"),
        ("no_reply+shop", "R4"),
        ("do-not-reply", "R4"),
        ("donotreply", "R4"),
        ("owner-news", "R4"),
        ("news-request", "R4"),
        ("listserv", "R4"),
        ("majordomo", "R4"),
        ("mailer-daemon", "R1"),
        ("Postmaster", "R1"),
        ("bounce", "R1"),
        ("bounces+77", "R1"),
        ("bouncer", ""),
        ("norbert", ""),
        ("request", ""),
        ("support", "R6"),
        ("help", "R6"),
    ],
)
def test_an_address_that_reads_no_answers(local: str, broken: str) -> None:
    assert rule(raw(sender=f"Somebody <{local}@example.com>")) == broken


def test_reports_are_never_answered() -> None:
    assert rule(REPORT) == "R5"


@pytest.mark.parametrize(
    ("flag", "broken"),
    [
        ("$Junk", "R9"),
        ("Junk", "R9"),
        ("\\Answered", "R11"),
        ("\\Deleted", "R11"),
        ("\\Draft", "R11"),
        ("\\Seen", ""),
    ],
)
def test_flags_say_what_was_done_already(flag: str, broken: str) -> None:
    assert rule(raw(), flag) == broken


def test_what_a_person_took_out_of_junk_is_no_junk() -> None:
    assert rule(raw(), "Junk", "$NotJunk") == ""


@pytest.mark.parametrize(
    "data",
    [
        raw(("Return-Path", "<>")),
        raw(("Auto-Submitted", "auto-replied")),
        raw(("X-Loop", "postroom support@example.com"), ("Auto-Submitted", "auto-generated")),
        raw(sender="support@example.com"),
        REPORT,
        # The worse objection counts: a vacation notice that a list has passed on.
        raw(("List-Id", "<news.example.com>"), ("Auto-Submitted", "auto-replied")),
    ],
)
def test_what_may_answer_us_is_not_even_sorted(data: bytes) -> None:
    assert not sortable(data)


@pytest.mark.parametrize(
    "data",
    [
        raw(("List-Id", "<news.example.com>")),
        raw(("Auto-Submitted", "auto-generated")),
        raw(sender="no-reply@shop.example"),
        raw(("Precedence", "bulk")),
    ],
)
def test_what_machines_send_to_many_can_be_sorted(data: bytes) -> None:
    assert sortable(data)


def test_a_mail_is_addressed_by_any_of_our_addresses_in_any_field() -> None:
    assert addressed_to_us(fetched(raw(to="Support <SUPPORT@example.com>")).parsed, table())
    assert addressed_to_us(fetched(raw(to="x@y.z, help@example.com")).parsed, table())
    assert addressed_to_us(
        fetched(raw(("Resent-To", "help@example.com"), to="x@y.z")).parsed, table()
    )
    assert not addressed_to_us(fetched(raw(to="info@example.com")).parsed, table())
    assert not addressed_to_us(fetched(raw(to="support@example.com.evil.org")).parsed, table())
