"""What the gateway lets through: targets, headers in both directions, and its own errors. Pure.

An agent's process holds its token, and so does anything that the agent runs: what is let through
here is the whole of what they can ask of the model's API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
PATHS = {MESSAGES.encode(): MESSAGES, COUNT_TOKENS.encode(): COUNT_TOKENS}

Headers = Iterable[tuple[str, str]]

_QUERY = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]{0,1024}")  # RFC 3986, section 3.4

# Allowed rather than dropped: credentials, hop-by-hop headers and what nobody thought of stay out.
_TO_UPSTREAM = re.compile(
    r"accept|content-type|user-agent|x-app|x-client-request-id"
    r"|anthropic-(version|dangerous-direct-browser-access)"
    r"|x-stainless-[a-z-]+|x-claude-code-[a-z-]+"
)
# The API's experiments that go up: those of the pinned CLI that change how the model answers
# (tests/integration/test_gateway_cli.py). None that lets the API act, or keep, or fetch anything.
BETAS = frozenset(
    {
        "claude-code-20250219",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "mid-conversation-system-2026-04-07",
        "mid-conversation-tool-changes-2026-07-01",
        "per-turn-control-2026-07-01",
        "prompt-caching-scope-2026-01-05",
        "redact-thinking-2026-02-12",
        "structured-outputs-2025-12-15",
        "thinking-display-updates-2026-08-18",
        "thinking-token-count-2026-05-13",
        "token-counting-2024-11-01",
        "tool-search-tool-2025-10-19",
    }
)

_TO_CLIENT = re.compile(
    r"content-type|content-encoding|cache-control|request-id|retry-after(-ms)?|x-should-retry"
    r"|anthropic-ratelimit-[a-z-]+|anthropic-fast-[a-z-]+"
)

_ERRORS = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    502: "api_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request may go: one of PATHS, and the query as it came ("" for none)."""

    path: str
    query: str

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Rejection:
    """An answer of the gateway's own; `headers` beside the content type."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """Anthropic's error shape (https://platform.claude.com/docs/en/api/errors)."""
        error = {"type": _ERRORS.get(self.status, "api_error"), "message": self.message}
        return json.dumps({"type": "error", "error": error}).encode()


def endpoint(method: str, target: str, headers: Headers) -> Endpoint | Rejection:
    """Judge a request line as it came. The path must be one of ours after one percent-decode, so
    "..", "//", NUL, an absolute form or a second encoding never match.
    """
    raw_path, _, query = target.partition("?")
    path = PATHS.get(unquote_to_bytes(raw_path.encode("utf-8", "surrogateescape")))
    if method == "CONNECT":
        return Rejection(405, "The gateway is no proxy.", (("allow", "POST"),))
    if path is None:
        return Rejection(404, "The gateway knows only the messages API.")
    if method != "POST":
        return Rejection(405, "Only POST is allowed here.", (("allow", "POST"),))
    if not _QUERY.fullmatch(query):
        return Rejection(404, "The query is not well formed.")
    names = {name.lower(): value for name, value in headers}
    if "upgrade" in names:
        return Rejection(403, "The gateway does not upgrade connections.")
    if names.get("content-encoding", "identity").lower() != "identity":
        return Rejection(415, "Send the body without a content encoding.")
    return Endpoint(path, query)


def tokens(headers: Headers) -> Iterator[str]:
    """The values that may be our token, in whichever header a client has for its key."""
    for name, value in headers:
        if name.lower() == "x-api-key":
            yield value.strip()
        elif name.lower() == "authorization":
            scheme, _, rest = value.strip().partition(" ")
            if scheme.lower() == "bearer":
                yield rest.strip()


def to_upstream(headers: Headers) -> list[tuple[str, str]]:
    """What goes on to the API of a client's headers: the harmless ones, no credentials."""
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        if name.lower() == "anthropic-beta":
            known = [beta for beta in map(str.strip, value.split(",")) if beta in BETAS]
            kept += [(name, ",".join(known))] if known else []
        elif _TO_UPSTREAM.fullmatch(name.lower()):
            kept.append((name, value))
    return [*kept, ("accept-encoding", "identity")]


def to_client(headers: Headers) -> list[tuple[str, str]]:
    """What comes back: nothing that names our organisation, sets a cookie or is hop by hop."""
    return [(name, value) for name, value in headers if _TO_CLIENT.fullmatch(name.lower())]
