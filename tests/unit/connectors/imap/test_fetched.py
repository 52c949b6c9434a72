from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.imap.fetched import Chunk, Fetched, read_fetches


def test_facts_are_read_in_any_order_and_case() -> None:
    date = b'"28-Nov-2026 10:00:00 +0100"'
    found = read_fetches(
        [
            rb"1 FETCH (UID 7 FLAGS (\Seen $Junk) INTERNALDATE %b RFC822.SIZE 42)" % date,
            b'2 FETCH (rfc822.size 43 internaldate " 1-Feb-2026 00:00:00 +0000" flags () uid 8)',
        ]
    )
    moment = datetime(2026, 11, 28, 9, tzinfo=UTC).timestamp()
    assert found[7] == Fetched(7, frozenset({"\\Seen", "$Junk"}), 42, moment)
    assert found[8] == Fetched(8, frozenset(), 43, datetime(2026, 2, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        ([b"1 FETCH (UID 7 BODY[] {3}", bytearray(b"a)b"), b")"], b"a)b"),
        ([b"1 FETCH (BODY[] {3}", bytearray(b"abc"), b" UID 7 FLAGS (\\Seen))"], b"abc"),
        ([b'1 FETCH (UID 7 BODY[] "a \\"b\\"")'], b'a "b"'),
        ([b"1 FETCH (UID 7 BODY[] NIL)"], b""),
        ([b"1 FETCH (UID 7 BODY[]<1024> {2}", bytearray(b"de"), b")"], b"de"),
        ([b"1 FETCH (UID 7 BODY[HEADER] {0}", bytearray(), b")"], b""),
        ([b"1 FETCH (UID 7 FLAGS ())"], None),
    ],
)
def test_a_body_comes_as_a_literal_a_string_or_not_at_all(
    chunks: list[Chunk], body: bytes | None
) -> None:
    got = read_fetches(chunks)[7].body
    assert (None if got is None else bytes(got)) == body


def test_a_body_that_looks_like_an_answer_is_none() -> None:
    fake = bytearray(b"1 FETCH (UID 9 FLAGS (\\Deleted))\r\n2 FETCH (UID 9 BODY[] {1}\r\nx)")
    found = read_fetches([b"1 FETCH (UID 7 BODY[] {%d}" % len(fake), fake, b")"])
    assert set(found) == {7}
    assert found[7].body == fake


@pytest.mark.parametrize(
    "noise",
    [
        [],
        [b"3 EXISTS"],
        [b"1 FETCH (FLAGS (\\Seen))"],
        [b"1 FETCH (UID x)"],
        [b"1 FETCH"],
        [b"1 FETCH (UID"],
        [bytearray(b"a literal of nobody"), b")"],
        [b"\xff\xfe"],
        [b'1 FETCH (UID 7 INTERNALDATE "nonsense'],
    ],
)
def test_what_names_no_mail_is_left_out(noise: list[Chunk]) -> None:
    assert all(fact.arrived is None for fact in read_fetches(noise).values())


@pytest.mark.parametrize("date", ["99-Foo-9999 99:99:99 +9999", "", "28-Nov-2026", "1"])
def test_a_date_of_nowhere_is_none(date: str) -> None:
    assert read_fetches([f'1 FETCH (UID 7 INTERNALDATE "{date}")'.encode()])[7].arrived is None
