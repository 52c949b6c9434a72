from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.imap.cleaning import MAX_HEADER
from connectors.imap.parse import (
    MAX_ADDRESSES,
    MAX_BODY,
    MAX_QUOTED,
    Parsed,
    content_hash,
    parse,
)
from tests.hostile_mails import HOSTILE

DATA = Path(__file__).parents[3] / "data" / "mail"
ODD = sorted(DATA.rglob("*.eml"))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def is_sound(parsed: Parsed) -> bool:
    """It can be stored, told to a model, and is bounded."""
    everything = parsed.as_json()
    assert Parsed(**json.loads(json.dumps(everything))) == parsed
    for text in strings(everything):
        text.encode()  # no lone surrogates
        assert "\0" not in text
        assert "\x1b" not in text
    assert len(parsed.text) <= MAX_BODY
    assert len(parsed.quoted) <= MAX_QUOTED
    assert all(len(value) <= MAX_HEADER for each in parsed.headers.values() for value in each)
    assert all(len(found) <= MAX_ADDRESSES for found in parsed.addresses.values())
    assert len(parsed.content_hash) == 64
    return True


@pytest.mark.parametrize("path", ODD, ids=lambda path: path.stem)
def test_odd_mails_of_other_projects_are_all_read(path: Path) -> None:
    parsed = parse(path.read_bytes())
    assert parsed.broken == ""
    assert is_sound(parsed)


def test_the_collection_is_there() -> None:
    assert len(ODD) == 115


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_mail_comes_back_as_a_sound_record(name: str) -> None:
    parsed = parse(HOSTILE[name])
    assert is_sound(parsed)
    # Only what nests without end is given up.
    assert bool(parsed.broken) == (name in {"1000 levels", "2000 mails in mails"})


# --- any bytes -----------------------------------------------------------------------------------

_HEADERS = ("From", "To", "Subject", "Message-ID", "References", "Content-Type", "Date")
_PIECES = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"--b",
            b"--b--",
            b";",
            b'"',
            b"<",
            b">",
            b"(",
            b"@",
            b"=?",
            b"?=",
        ),
        *(b"utf-8", b"multipart/mixed; boundary=b", b"text/html", b"message/rfc822", b"charset="),
        *(b"Content-Transfer-Encoding: base64", b"filename*0*=", b"\xff\xfe", b"\0", b"=E9"),
    ]
)
_field = st.builds(
    lambda name, pieces: name.encode() + b": " + b"".join(pieces) + b"\r\n",
    st.sampled_from(_HEADERS),
    st.lists(_PIECES | st.binary(max_size=20), max_size=8),
)
_mails = st.builds(
    lambda fields, body: b"".join(fields) + b"\r\n" + b"".join(body),
    st.lists(_field, max_size=8),
    st.lists(_PIECES | st.binary(max_size=40), max_size=20),
)


@example(b"Content-Type: \0/\r\n\r\nhello")
@example(b"From: \0@\0\r\nMessage-ID: <\0>\r\n\r\nhello")
@given(st.binary(max_size=2000) | _mails)
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    assert is_sound(parse(raw))


# --- who, and in which thread --------------------------------------------------------------------


def test_an_encoded_word_cannot_smuggle_an_address_in() -> None:
    parsed = parse(b"From: =?utf-8?q?boss=40example.test=2C?= <x@evil.test>\r\n\r\nhello")
    assert [spec for _, spec in parsed.addresses["from"]] == ["x@evil.test"]


@pytest.mark.parametrize(
    ("fields", "one"),
    [
        (b"From: A <a@example.test>", True),
        (b"From: a@example.test, b@example.test", False),
        (b"From: a@example.test\r\nFrom: b@example.test", False),
        (b"From: boss@example.test <x@evil.test>", False),
        (b"From: x@evil.test (boss@example.test)", False),
        ('From: "bös@example.test" <x@evil.test>'.encode(), True),  # quoted: seen as a name
        (b"From: nobody", False),
        (b"Subject: no author", False),
    ],
)
def test_one_author_is_one_that_nobody_can_take_for_another(fields: bytes, one: bool) -> None:
    assert parse(fields + b"\r\n\r\nhello").one_author is one


def test_references_are_kept_in_order_and_what_is_no_id_is_dropped() -> None:
    raw = (
        b"Message-ID: <c@x>\r\nIn-Reply-To: your mail of <b@x>\r\n"
        b"References: <a@x>\r\n\t<b@x> nonsense <>\r\n\r\nhello"
    )
    parsed = parse(raw)
    assert parsed.message_id == "<c@x>"
    assert parsed.in_reply_to == ["<b@x>"]
    assert parsed.references == ["<a@x>", "<b@x>"]


@pytest.mark.parametrize("field", [b"Message-ID: <>\r\n", b"", b"Message-ID: \r\n"])
def test_no_message_id_is_none(field: bytes) -> None:
    assert parse(field + b"Subject: s\r\n\r\nhello").message_id == ""


# --- the same mail again -------------------------------------------------------------------------

_MAIL = b"Message-ID: <a@x>\r\nSubject: s\r\n\r\nhello\r\n"


def test_what_relays_add_is_no_other_content() -> None:
    relayed = (
        b"Return-Path: <a@x>\nReceived: from a\n\tby b; today\nX-Spam: 1\nDelivered-To: c@x\n"
        b"ARC-Seal: i=1;\n b=abc\nAuthentication-Results: mx; dmarc=pass\n"
        b"Message-ID: <a@x>\nSubject: s\n\nhello\n"
    )
    assert content_hash(relayed) == content_hash(_MAIL)


@pytest.mark.parametrize(
    "other",
    [_MAIL.replace(b"hello", b"hallo"), _MAIL.replace(b"Subject: s", b"Subject: t"), _MAIL + b"x"],
)
def test_other_content_is_another_mail(other: bytes) -> None:
    assert content_hash(other) != content_hash(_MAIL)


def test_a_received_line_in_the_body_is_content() -> None:
    assert content_hash(_MAIL + b"Received: x\r\n") != content_hash(_MAIL)


# --- what the model reads ------------------------------------------------------------------------


def test_what_a_person_would_not_see_is_dropped_and_told() -> None:
    parsed = parse(HOSTILE["hidden text"])
    assert parsed.text == "shown"
    assert "hidden text" in parsed.flags
    assert "hidden characters" in parse(HOSTILE["hidden characters"]).flags


def test_of_two_forms_the_plain_one_is_shown_and_the_other_is_told_of() -> None:
    raw = (
        b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\n\r\nplain\r\n'
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>quite another text</p>\r\n--b--\r\n"
    )
    parsed = parse(raw)
    assert parsed.text == "plain"
    assert "HTML form not shown" in parsed.flags


def test_a_multipart_without_its_boundary_is_still_read() -> None:
    assert parse(HOSTILE["a multipart without a boundary"]).text == "x"


def test_a_codec_of_pythons_own_is_no_charset() -> None:
    parsed = parse(HOSTILE["charset that decompresses"])
    assert len(parsed.text) < 1000
    assert "charset" in parsed.flags
    assert "\u202e" not in parse(HOSTILE["charset of escapes"]).text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("japanese_iso_2022", "すみません"),
        ("japanese_shift_jis", "このメールはテスト用のメールです"),
        ("ks_c_5601-1987", "스티해"),
    ],
)
def test_a_text_in_its_own_charset_is_readable(name: str, text: str) -> None:
    parsed = parse((DATA / "mikel-mail" / "multi_charset" / f"{name}.eml").read_bytes())
    assert text in parsed.text
    assert parsed.flags == []


@pytest.mark.parametrize("path", sorted((DATA / "talon").glob("*.eml")), ids=lambda path: path.stem)
def test_a_reply_is_parted_from_what_it_quotes(path: Path) -> None:
    parsed = parse(path.read_bytes())
    assert parsed.text.startswith("Hello")
    assert parsed.quoted
    if path.stem != "android":  # its "wrote:" is in Russian, which the library does not know
        assert "Hi" not in parsed.text


def test_what_is_only_quoted_is_not_lost() -> None:
    assert parse(HOSTILE["quotes only"]).text.startswith("> x")


def test_attachments_are_told_by_name_type_and_size() -> None:
    raw = (DATA / "mikel-mail" / "multi_charset" / "japanese_attachment.eml").read_bytes()
    assert parse(raw).attachments == [["てすと.txt", "text/plain", 33]]


def test_a_name_with_a_path_keeps_no_control_characters() -> None:
    ((name, _, _),) = parse(HOSTILE["a name with a path"]).attachments
    assert "\0" not in str(name)
