"""Who may ask the daemon what over HTTP: by the name it is called, the origin, and the token.

A page in a browser can ask any address for anything, this machine's too, and can give the machine a
name of its own (DNS rebinding). It cannot choose the Host that it sends, hide its Origin, or add a
header of ours. docs/security.md has the rules.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from daemon.machine import is_loopback

MARK = "X-Postroom"  # what asks for a change carries it, with the value "1"
READING = frozenset({"GET", "HEAD"})
PROBES = frozenset({"/livez", "/readyz", "/healthz"})  # answered without the token; not in full

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered, and with which status."""

    status: int
    reason: str


class Guard:
    """`token` gives the daemon's token, None where it has none: then only this machine may ask."""

    def __init__(self, token: Callable[[], str | None]) -> None:
        self._token = token

    def refusal(self, request: web.Request) -> Refusal | None:
        """None: it may be answered."""
        shown = self._shows_token(request)
        if not shown and not self._called_by_its_name(request):
            return Refusal(403, "unknown Host")
        if "Origin" in request.headers:
            return Refusal(403, "no page may ask this")
        if request.method not in READING and request.headers.get(MARK) != "1":
            return Refusal(403, f"what changes something carries the header {MARK}: 1")
        if shown or request.path in PROBES or (self._token() is None and self._is_local(request)):
            return None
        return Refusal(401, "show the daemon's token: Authorization: Bearer TOKEN")

    def may_see_all(self, request: web.Request) -> bool:
        """Whether a probe is told details: they are for this machine, and for who has the token."""
        return self._shows_token(request) or self._is_local(request)

    def _shows_token(self, request: web.Request) -> bool:
        token = self._token()
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        if token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(_bytes(shown.strip()), _bytes(token))

    def _called_by_its_name(self, request: web.Request) -> bool:
        """A page that was rebound to this address calls it by the page's own name. Who sends no
        Host at all (HTTP/1.0) is no browser. An address is nobody's name, but only where strangers
        can reach the daemon at all is it called by other ones than loopback's.
        """
        host = _host(request)
        return (
            host is None or is_loopback(host) or (self._token() is not None and _is_address(host))
        )

    def _is_local(self, request: web.Request) -> bool:
        """Whether it comes from this machine, and not through a proxy that runs on it."""
        if any(header in request.headers for header in _FORWARDED):
            return False
        host = _host(request)
        return is_loopback(request.remote or "") and (host is None or is_loopback(host))


def _host(request: web.Request) -> str | None:
    """The name or address that the request calls us by; "" for one that is none."""
    host = request.headers.get("Host")
    if host is None:
        return None
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
