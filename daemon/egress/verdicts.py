"""What may come of a request to the proxy, and how each is said to who asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Verdict(StrEnum):
    """The label of `egress_connections_total`, and a fact of the audit."""

    OPENED = "opened"
    PLAIN = "plain"  # no CONNECT
    MALFORMED = "malformed"
    UNKNOWN = "unknown"  # no token of an open turn
    NOT_LISTED = "not_listed"
    INSIDE = "inside"  # its addresses are private ones, or this machine's
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    SPENT = "spent"  # more connections or bytes than a turn may have
    UNRECORDED = "unrecorded"  # what the audit does not have does not go out


class Refused(Exception):
    """A request that is not carried out."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.value)
        self.verdict = verdict


OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"

# Reasons stand in the status line as well: of an answer to CONNECT most clients show only that.
_SAID: Mapping[Verdict, tuple[int, str]] = {
    Verdict.PLAIN: (405, "Only CONNECT goes through here: use https"),
    Verdict.MALFORMED: (400, "Not well formed: CONNECT HOST:PORT, with the full name of a host"),
    Verdict.UNKNOWN: (407, "No turn is open for these credentials"),
    Verdict.NOT_LISTED: (403, "This host and port are not on the list of what may be reached"),
    Verdict.INSIDE: (403, "This name leads to a private address"),
    Verdict.UNRESOLVED: (502, "This name was not found"),
    Verdict.UNREACHABLE: (502, "This host does not answer"),
    Verdict.SPENT: (429, "This turn has no more connections or bytes left"),
    Verdict.UNRECORDED: (503, "This cannot be recorded right now"),
}


def answer(verdict: Verdict) -> bytes:
    """The proxy's whole answer to a request that it refuses; the connection ends with it."""
    status, reason = _SAID[verdict]
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain",
        f"Content-Length: {len(reason) + 1}",
        "Connection: close",
    ]
    if verdict is Verdict.UNKNOWN:  # RFC 9110, section 15.5.8
        lines.append('Proxy-Authenticate: Basic realm="postroom"')
    return "\r\n".join([*lines, "", f"{reason}\n"]).encode("ascii")
