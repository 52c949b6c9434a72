"""Who wrote a mail, as far as that is proven. What a mail says of itself proves nothing.

One header is believed: the topmost Authentication-Results (RFC 8601) that bears the name of our
own mail server, which must strip foreign ones of that name (`doctor --live` tries it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from connectors.imap.config import ADDRESS, ImapTable
from connectors.imap.parse import Parsed
from daemon.model import Trust

_EQUALS = re.compile(r"\s*=\s*")
_DMARC = re.compile(r"dmarc(?:/\d+)?=(\w+)", re.IGNORECASE)
_HEADER_FROM = re.compile(r"header\.from=(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Author:
    """The address that a mail names as its author, and what its text may count for."""

    address: str
    name: str
    trust: Trust

    @property
    def id(self) -> str:
        return f"mail:{self.address}"

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def author_of(parsed: Parsed, table: ImapTable, operators: frozenset[str]) -> Author | None:
    """None: no address at all. Anything but one plain, authenticated address is `public`."""
    pairs = parsed.addresses.get("from", [])
    if not pairs:
        return None
    name, address = pairs[0][0].strip(), pairs[0][1].lower()
    return Author(address, name[:80] or address, _trust(parsed, address, table, operators))


def _trust(parsed: Parsed, address: str, table: ImapTable, operators: frozenset[str]) -> Trust:
    if not parsed.one_author or not ADDRESS.fullmatch(address):
        return Trust.PUBLIC
    proven = proven_domain(parsed.headers.get("authentication-results", ()), table.authserv_id)
    if proven is None or proven != address.rpartition("@")[2]:
        return Trust.PUBLIC
    if f"mail:{address}" in {operator.lower() for operator in operators}:
        return Trust.OPERATOR
    return Trust.MEMBER if allowed(address, table.allow) else Trust.PUBLIC


def allowed(address: str, patterns: Sequence[str]) -> bool:
    """Whether an address matches one of `allow`: "local@domain", or "domain" alone, each with `*`
    for any run of characters; never one across the "@".
    """
    local, _, domain = address.lower().rpartition("@")
    for pattern in patterns:
        wanted_local, at, wanted_domain = pattern.rpartition("@")
        if fnmatchcase(domain, wanted_domain) and fnmatchcase(local, wanted_local if at else "*"):
            return True
    return False


def proven_domain(fields: Sequence[str], authserv_id: str | None) -> str | None:
    """The domain of From for which our own server says dmarc=pass, in lower case.

    `fields` are the Authentication-Results fields from the top. None: nothing is proven.
    """
    if authserv_id is None:
        return None
    for value in fields:
        statements = _statements(value)
        if statements and statements[0].split(" ")[0].lower() == authserv_id:
            return _passed(statements[1:])
    return None


def _passed(statements: Sequence[str]) -> str | None:
    """Two results of one kind, or two domains in one, prove nothing."""
    dmarc = [found for found in statements if found.lower().startswith("dmarc")]
    if len(dmarc) != 1:
        return None
    result, domains = _DMARC.match(dmarc[0]), _HEADER_FROM.findall(dmarc[0])
    if result is None or result[1].lower() != "pass" or len(domains) != 1:
        return None
    return str(domains[0]).lower().rstrip(".")


def _statements(value: str) -> list[str]:
    """The field's parts between semicolons, without comments; quoted text becomes a lone quote, as
    nothing that is read here is ever quoted. Empty: it is not well-formed.
    """
    bare: list[str] = []
    depth, quoted = 0, False
    escaped = False
    for character in value:
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = character != '"'
        elif character == "(":
            depth += 1
            bare.append(" ")
        elif depth:
            depth -= character == ")"
        elif character == '"':
            quoted = True
            bare.append('"')
        else:
            bare.append(character)
    if depth or quoted:
        return []
    parts = "".join(bare).split(";")
    return [_EQUALS.sub("=", " ".join(part.split())) for part in parts]
