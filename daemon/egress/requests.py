"""The head of a request to the proxy, read strictly: what is not plain CONNECT is refused. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from daemon.egress.verdicts import Refused, Verdict

MAX_HEAD = 8192  # bytes
END = b"\r\n\r\n"

_LINE = re.compile(r"([!-~]+) ([!-~]+) HTTP/1\.[01]")  # RFC 9112, section 3
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)")  # RFC 9112, section 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants: a target, not looked at yet, and the token that it shows ("": none)."""

    target: str
    token: str


def parse(head: bytes) -> Asked:
    """Read a head with the empty line at its end. Raises Refused."""
    try:
        line, *fields = head.removesuffix(END).decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Refused(Verdict.MALFORMED) from None
    asked = _LINE.fullmatch(line)
    found = [_FIELD.fullmatch(field) for field in fields]
    if asked is None or len(head) > MAX_HEAD:
        raise Refused(Verdict.MALFORMED)
    shown = []
    for field in found:
        if field is None:
            raise Refused(Verdict.MALFORMED)
        if field[1].lower() == "proxy-authorization":
            shown.append(field[2])
    if len(shown) > 1:
        raise Refused(Verdict.MALFORMED)
    if asked[1] != "CONNECT":
        raise Refused(Verdict.PLAIN)
    return Asked(asked[2], _token(shown[0]) if shown else "")


def _token(shown: str) -> str:
    """The password of Basic credentials (RFC 7617): clients make them of the proxy's address."""
    scheme, _, credentials = shown.strip().partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text.partition(":")[2]
