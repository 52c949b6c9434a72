"""What passes the gateway's door, and in which words it refuses."""

from __future__ import annotations

import json

import pytest

from daemon.gateway import rules
from daemon.gateway.rules import Endpoint, Rejection


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/v1/messages", Endpoint("/v1/messages", "")),
        ("/v1/messages?", Endpoint("/v1/messages", "")),
        ("/v1/messages?beta=true&x=%41", Endpoint("/v1/messages", "beta=true&x=%41")),
        ("/%76%31/messages/count%5Ftokens", Endpoint("/v1/messages/count_tokens", "")),
    ],
)
def test_our_paths_are_found_and_made_plain(target: str, found: Endpoint) -> None:
    assert rules.endpoint("POST", target, ()) == found


def test_a_target_keeps_its_query() -> None:
    assert Endpoint("/v1/messages", "beta=true").target == "/v1/messages?beta=true"
    assert Endpoint("/v1/messages", "").target == "/v1/messages"


@pytest.mark.parametrize("query", ["a b", "a#b", "a\x00", "ä", "a\r\nx: y", "x" * 1025, '"'])
def test_odd_queries_are_refused(query: str) -> None:
    refused = rules.endpoint("POST", f"/v1/messages?{query}", ())
    assert isinstance(refused, Rejection)
    assert refused.status == 404


def test_the_token_is_found_in_either_header() -> None:
    headers = [("X-Api-Key", " a "), ("Authorization", "Bearer b"), ("authorization", "Basic c")]
    assert list(rules.tokens(headers)) == ["a", "b"]


def test_only_known_headers_go_up_and_one_key_among_them() -> None:
    names = [
        "X-Api-Key",
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Expect",
        "Accept-Encoding",
        "Forwarded",
        "Anthropic-Organization-Id",
        "Anthropic-Workspace-Id",
        "Anthropic-Beta",
        "Anthropic-Version",
        "Content-Type",
        "X-Stainless-Retry-Count",
        "User-Agent",
    ]
    sent = rules.to_upstream([(name, "theirs") for name in names])
    assert [name for name, value in sent if value == "theirs"] == names[-4:]
    assert sent[-1:] == [("accept-encoding", "identity")]


def test_only_known_experiments_go_up() -> None:
    sent = rules.to_upstream(
        [
            ("Anthropic-Beta", "claude-code-20250219, files-api-2025-04-14 ,effort-2025-11-24"),
            ("anthropic-beta", "code-execution-2025-08-25"),
        ]
    )
    betas = [value for name, value in sent if name.lower() == "anthropic-beta"]
    assert betas == ["claude-code-20250219,effort-2025-11-24"]


def test_only_known_headers_come_back() -> None:
    names = [
        "Set-Cookie",
        "Anthropic-Organization-Id",
        "CF-Ray",
        "Server",
        "Via",
        "Transfer-Encoding",
        "Content-Length",
        "X-Api-Key",
        "Content-Type",
        "Request-Id",
        "Retry-After",
        "X-Should-Retry",
        "Anthropic-RateLimit-Requests-Remaining",
    ]
    kept = rules.to_client([(name, "v") for name in names])
    assert [name for name, _ in kept] == names[-5:]


@pytest.mark.parametrize("status", [403, 404, 405, 413, 415, 429, 502, 504])
def test_refusals_have_the_shape_of_the_apis_errors(status: int) -> None:
    said = json.loads(Rejection(status, "why").body())
    assert said["type"] == "error"
    assert said["error"]["message"] == "why"
    assert said["error"]["type"].endswith(("_error", "_too_large"))
