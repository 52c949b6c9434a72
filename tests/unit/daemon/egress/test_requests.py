"""What the proxy takes for a request."""

from __future__ import annotations

import base64

import pytest

from daemon.egress.requests import MAX_HEAD, Asked, parse
from daemon.egress.verdicts import Refused, Verdict, answer


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def credentials(text: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(text.encode()).decode()


CONNECT = "CONNECT pypi.org:443 HTTP/1.1"


def test_a_client_proves_itself_by_the_password_of_its_proxy_s_address() -> None:
    shown = credentials("postroom:postroom-cap-x_-y")
    assert parse(head(CONNECT, "Host: other.example", shown)) == Asked(
        "pypi.org:443", "postroom-cap-x_-y"
    )


@pytest.mark.parametrize(
    "shown",
    [
        "Host: pypi.org",
        "Authorization: Basic " + base64.b64encode(b"postroom:x").decode(),
        "Proxy-Authorization: Bearer x",
        "Proxy-Authorization: Basic",
        "Proxy-Authorization: Basic !!!!",
        "Proxy-Authorization: Basic " + base64.b64encode(b"x\xff:\xff").decode(),
        credentials("no colon"),
    ],
)
def test_who_shows_nothing_is_nobody(shown: str) -> None:
    assert parse(head(CONNECT, shown)).token == ""


@pytest.mark.parametrize(
    "request_head",
    [
        head("CONNECT pypi.org:443"),
        head("CONNECT  pypi.org:443 HTTP/1.1"),
        head("CONNECT pypi.org:443 HTTP/2.0"),
        head("CONNECT pypi.org:443 x HTTP/1.1"),
        head(CONNECT, "no field"),
        head(CONNECT, "a: x\0y"),
        head(CONNECT, "a: x\ny: z"),
        head(CONNECT, "a: x\ry: z"),
        head(CONNECT, " folded: x"),
        head(CONNECT, "a : x"),
        head(CONNECT, "a: \xfc"),
        head(CONNECT, credentials("postroom:a"), credentials("postroom:b")),
        head(CONNECT, "a: " + "x" * MAX_HEAD),
        b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_what_is_not_well_formed_is_refused(request_head: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse(request_head)
    assert refused.value.verdict is Verdict.MALFORMED


@pytest.mark.parametrize("line", ["GET http://pypi.org/ HTTP/1.1", "POST / HTTP/1.0"])
def test_nothing_but_connect_goes_through(line: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(head(line))
    assert refused.value.verdict is Verdict.PLAIN


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.OPENED])
def test_every_refusal_says_why_in_its_status_line(verdict: Verdict) -> None:
    first, _, rest = answer(verdict).decode("ascii").partition("\r\n")
    version, status, reason = first.split(" ", 2)
    assert version == "HTTP/1.1"
    assert 400 <= int(status) < 600
    assert rest.endswith(f"\r\n\r\n{reason}\n")
    assert ("Proxy-Authenticate: Basic" in rest) is (int(status) == 407)
