"""The signature against AWS's own published examples (its Signature Version 4 test suite)."""

from __future__ import annotations

import calendar

import pytest

from daemon.credentials import AccessKey
from daemon.gateway.upstreams.sigv4 import signed

KEY = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = calendar.timegm((2015, 8, 30, 12, 36, 0))


def sign(method: str, path: str, key: AccessKey = KEY, body: bytes = b"") -> dict[str, str]:
    return signed(
        key,
        method=method,
        url=f"https://example.amazonaws.com{path}",
        headers={},
        body=body,
        region="us-east-1",
        service="service",
        at=AT,
    )


@pytest.mark.parametrize(
    ("method", "path", "signature"),
    [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/\u1234", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ],
    ids=["get-vanilla", "post-vanilla", "get-utf8"],
)
def test_it_is_the_published_one(method: str, path: str, signature: str) -> None:
    added = sign(method, path)
    assert added == {
        "x-amz-date": "20150830T123600Z",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            f"SignedHeaders=host;x-amz-date, Signature={signature}"
        ),
    }


def test_a_session_token_is_signed_along() -> None:
    added = sign("GET", "/", AccessKey(KEY.id, KEY.secret, "a token"))
    assert added["x-amz-security-token"] == "a token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token" in added["authorization"]


def test_another_body_has_another_signature() -> None:
    assert sign("POST", "/", body=b"{}") != sign("POST", "/")
