"""Where an agent's shell may connect to: the entries of a profile's `egress`, and the hosts and
ports that it asks for. Pure.

A host is a name, never an address. Names are compared letter by letter, in the one spelling that
every program reads alike: what some would take for an address, or for another name, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")  # RFC 1123, section 2.1; of two labels or more
_LONGEST_NAME = 253  # RFC 1035, section 2.3.4, without the lengths
_PORT = re.compile(r"[1-9][0-9]{0,4}")
# With such a last label a name is an IPv4 address: https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_BENEATH = "*."


@dataclass(frozen=True, slots=True)
class Destination:
    """A host by its name, in lower case, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def destination(text: str) -> Destination:
    """Read "HOST:PORT". Raises ValueError with a sentence on what a destination is."""
    host, _, port = text.rpartition(":")
    if not text.isascii():  # before lower(), which makes plain letters of some others
        raise ValueError("write the name in ASCII, as xn--... where it has other letters")
    host = host.lower()
    if not _NAME.fullmatch(host) or len(host) > _LONGEST_NAME or not _PORT.fullmatch(port):
        raise ValueError('write "HOST:PORT" with the full name of a host, as "pypi.org:443"')
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise ValueError("write the name of a host, not an address")
    if int(port) > 65535:
        raise ValueError("the highest port is 65535")
    return Destination(host, int(port))


def entry(text: str) -> str:
    """An entry of a list as it is compared: "HOST:PORT", or "*.HOST:PORT" for all names beneath.
    Raises ValueError with a sentence on what an entry is.
    """
    beneath = _BENEATH if text.startswith(_BENEATH) else ""
    try:
        return f"{beneath}{destination(text.removeprefix(beneath))}"
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def granting(entries: Iterable[str], wanted: Destination) -> str | None:
    """The entry that lets a destination through; None: there is none, as in an empty list."""
    for known in entries:
        pattern, _, port = known.rpartition(":")
        beneath = pattern.startswith(_BENEATH) and wanted.host.endswith(pattern[1:])
        if int(port) == wanted.port and (beneath or pattern == wanted.host):
            return known
    return None
