"""Anthropic's own API, and whatever else speaks it and takes a key."""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL

from daemon.gateway import rules
from daemon.gateway.upstreams.dialect import AsItIs, Order, Reader, Upstream, Wish

ADDRESS = "https://api.anthropic.com"


class Anthropic:
    """The `Dialect` that changes nothing but the credentials."""

    without: frozenset[str] = frozenset()
    counts = True
    refusals = frozenset({401})

    def __init__(self, upstream: Upstream, key: str) -> None:
        self._url, self._key = (upstream.url or ADDRESS).rstrip("/"), key

    def has(self, model: str) -> bool:  # noqa: ARG002 - it says so itself
        return True

    def premium(self, model: str) -> float:  # noqa: ARG002
        return 1.0

    async def order(self, wish: Wish) -> Order:
        address = URL(self._url + wish.endpoint.target, encoded=True)
        headers = [*rules.to_upstream(wish.headers), ("x-api-key", self._key)]
        return Order(address, headers, wish.judged.body(wish.max_tokens))

    def read(self, status: int, headers: Mapping[str, str]) -> Reader:  # noqa: ARG002
        return AsItIs()

    def refused(self) -> None:
        """Nothing is derived from the key."""

    def use_key(self, key: str) -> None:
        self._key = key
