"""How an upstream is spoken to: the seam behind which Anthropic's API, Bedrock and Vertex lie.

Agents speak the Messages API to the gateway, whatever lies behind it: so their requests are judged,
held and metered in one way, and what they hold is one token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from yarl import URL

from daemon.gateway.body import Judged
from daemon.gateway.rules import Endpoint


@dataclass(frozen=True, slots=True)
class Upstream:
    """Which one, and where. `kind` is "anthropic", "bedrock" or "vertex"; an empty `url` is the
    provider's own. `models` has its ids by the names that agents ask for.
    """

    kind: str = "anthropic"
    url: str = ""
    region: str = ""
    project: str = ""
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an agent asks for, judged. `headers` are all that it sent; `max_tokens` is what its
    budgets let it write (None: it only counts).
    """

    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...]
    judged: Judged
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Order:
    """A request to the upstream, complete, its credentials among the headers."""

    url: URL
    headers: list[tuple[str, str]]
    body: bytes


class KeyRefusedError(Exception):
    """The credentials are good for nothing: nothing was asked of the model."""


class GarbledError(Exception):
    """An answer is not in the form that its upstream publishes."""


class Reader(Protocol):
    """Makes an answer of the upstream's one of the Messages API, piece by piece."""

    content_type: str | None
    """What the answer is then; None: what it was."""

    def feed(self, chunk: bytes) -> bytes:
        """Raises GarbledError."""
        ...

    def end(self) -> bytes:
        """What is left to say; nothing when asked again. Raises GarbledError where the answer is
        not whole.
        """
        ...


class Dialect(Protocol):
    """One upstream with its credentials."""

    without: frozenset[str]
    """Keys of a body that the upstream does not take."""
    counts: bool
    """Whether tokens can be counted there."""
    refusals: frozenset[int]
    """The statuses by which it refuses our credentials."""

    def has(self, model: str) -> bool:
        """Whether an agent's model can be had there."""
        ...

    def premium(self, model: str) -> float:
        """Times Anthropic's list prices."""
        ...

    async def order(self, wish: Wish) -> Order:
        """Raises KeyRefusedError, and OSError or aiohttp.ClientError where credentials cannot be
        had at the moment.
        """
        ...

    def read(self, status: int, headers: Mapping[str, str]) -> Reader: ...

    def refused(self) -> None:
        """What was shown was refused: what was derived from the key is to be had anew."""
        ...

    def use_key(self, key: str) -> None:
        """Other credentials, from the next order on. Raises ValueError."""
        ...


class AsItIs:
    """A reader for what is in the Messages API's form already."""

    content_type: str | None = None

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> bytes:
        return b""


def betas(headers: Iterable[tuple[str, str]]) -> list[str]:
    """The experiments that a client asks for."""
    values = (value for name, value in headers if name.lower() == "anthropic-beta")
    return [beta.strip() for value in values for beta in value.split(",") if beta.strip()]
