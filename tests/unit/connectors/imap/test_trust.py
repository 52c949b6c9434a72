"""Who a mail is from, and what proves it."""

from __future__ import annotations

import pytest

from connectors.imap.trust import allowed, author_of, proven_domain
from daemon.model import Trust
from tests.mails import OPERATORS, SERVER, fetched, proof, raw, table

PASS = "dmarc=pass (p=none) header.from=example.com"


def trust_of(data: bytes, **keys: object) -> Trust:
    author = author_of(fetched(data).parsed, table(**keys), OPERATORS)
    assert author is not None
    return author.trust


def test_a_proven_sender_who_is_allowed_is_a_member() -> None:
    assert trust_of(raw()) is Trust.MEMBER


def test_a_proven_operator_is_one_by_exact_address() -> None:
    assert trust_of(raw(sender="boss@example.com")) is Trust.OPERATOR
    assert trust_of(raw(sender="BOSS@Example.com")) is Trust.OPERATOR
    assert trust_of(raw(sender="aboss@example.com")) is Trust.MEMBER


def test_an_operator_need_not_match_allow() -> None:
    assert trust_of(raw(sender="boss@example.com"), allow=[]) is Trust.OPERATOR


def test_a_proven_stranger_is_public() -> None:
    fields = (("Authentication-Results", proof("elsewhere.org")),)
    data = raw(*fields, sender="eve@elsewhere.org", proven=False)
    assert trust_of(data) is Trust.PUBLIC


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw(proven=False), id="no results at all"),
        pytest.param(
            raw(("Authentication-Results", proof(result="fail")), proven=False), id="dmarc fails"
        ),
        pytest.param(
            raw(("Authentication-Results", proof(server="mx.evil.org")), proven=False),
            id="another server's word",
        ),
        pytest.param(
            raw(("Authentication-Results", proof("evil.org")), proven=False),
            id="proven for another domain",
        ),
        pytest.param(
            raw(
                ("Authentication-Results", f"{SERVER}; dmarc=fail header.from=example.com"),
                ("Authentication-Results", proof()),
                proven=False,
            ),
            id="forged below ours",
        ),
        pytest.param(
            raw(
                ("Authentication-Results", "mx.evil.org; dmarc=pass header.from=example.com"),
                ("Authentication-Results", f"{SERVER}; spf=pass smtp.mailfrom=evil.org"),
                ("Authentication-Results", proof()),
                proven=False,
            ),
            id="ours says nothing of dmarc",
        ),
        pytest.param(
            raw(("Authentication-Results", f"=?utf-8?q?{SERVER}?=; {PASS}"), proven=False),
            id="our name as an encoded word",
        ),
        pytest.param(
            raw(("Authentication-Results", f"mx\u200b.example.com; {PASS}"), proven=False),
            id="our name with a hidden character",
        ),
        pytest.param(raw(("From", "eve@evil.org")), id="two From fields"),
        pytest.param(raw(sender="bob@example.com, eve@evil.org"), id="two addresses"),
        pytest.param(
            raw(sender='"boss@example.com" <eve@evil.org>', proven=True),
            id="an operator's address as display name",
        ),
        pytest.param(raw(sender="boss@example.com <eve@evil.org>"), id="the same, unquoted"),
        pytest.param(raw(sender="=?utf-8?q?boss=40example=2Ecom?= <eve@evil.org>"), id="encoded"),
        pytest.param(raw(sender="b\u043ess@example.com"), id="a Cyrillic letter"),
    ],
)
def test_what_is_not_proven_is_public(data: bytes) -> None:
    assert trust_of(data) is Trust.PUBLIC


def test_without_a_server_to_believe_everybody_is_public() -> None:
    assert trust_of(raw(sender="boss@example.com"), authserv_id=None) is Trust.PUBLIC


def test_a_mail_without_an_address_has_no_author() -> None:
    assert author_of(fetched(raw(sender="")).parsed, table(), OPERATORS) is None


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (f"{SERVER}; {PASS}", "example.com"),
        (f"{SERVER} 1; spf=fail; {PASS}; dkim=none", "example.com"),
        (f"{SERVER.upper()}; DMARC=Pass header.from=Example.COM.", "example.com"),
        (f"({SERVER};) {SERVER} ; dmarc = pass header.from = example.com", "example.com"),
        (f"{SERVER}; dmarc/1=pass header.from=example.com", "example.com"),
        (f"{SERVER}; dmarc=none header.from=example.com", None),
        (f"{SERVER}; dmarc=bestguesspass header.from=example.com", None),
        (f"{SERVER}; dmarc=pass", None),
        (f"{SERVER}.evil.org; {PASS}", None),
        (f"{SERVER}; spf=pass (dmarc=pass header.from=a.org) smtp.mailfrom=x", None),
        (f'{SERVER}; spf=fail reason="; {PASS}"', None),
        (f'{SERVER}; spf=fail smtp.mailfrom="a\\"; {PASS};"', None),
        (f"{SERVER}; {PASS}; {PASS}", None),
        (f"{SERVER}; dmarc=pass header.from=example.com header.from=evil.org", None),
        (f"{SERVER}; {PASS} (", None),
        (f'{SERVER}; {PASS} "', None),
        (f"{SERVER}; x-dmarc=pass header.from=example.com", None),
        ("", None),
        (";" * 1000, None),
    ],
)
def test_results_are_read_as_rfc_8601_says(value: str, domain: str | None) -> None:
    assert proven_domain([value], SERVER) == domain


def test_only_the_topmost_of_our_own_server_counts() -> None:
    fail = f"{SERVER}; dmarc=fail header.from=example.com"
    assert proven_domain([fail, f"{SERVER}; {PASS}"], SERVER) is None
    assert proven_domain([f"{SERVER}; {PASS}", fail], SERVER) == "example.com"


@pytest.mark.parametrize(
    ("address", "pattern", "matches"),
    [
        ("bob@example.com", "*@example.com", True),
        ("bob@example.com", "example.com", True),
        ("bob@sub.example.com", "*@example.com", False),
        ("bob@sub.example.com", "*@*.example.com", True),
        ("bob@notexample.com", "*@example.com", False),
        ("bob@example.com.evil.org", "*@example.com", False),
        ("a@example.com@evil.org", "*@example.com", False),
        ("bob@example.com", "b*@example.com", True),
        ("eve@example.com", "b*@example.com", False),
        ("bob@example.com", "bob@example.com", True),
        ("bob@evil.org", "bob@*", True),
    ],
)
def test_allow_matches_the_parts_of_an_address(address: str, pattern: str, matches: bool) -> None:
    assert allowed(address, [pattern]) is matches
