"""Capability tokens: who may ask the model, and for which turn. No I/O."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from daemon.egress import Outing
from daemon.gateway.metering import Reading
from daemon.model import Turn
from daemon.ports import Refusal

PREFIX = "postroom-cap-"
"""Recognisable, for people and for redaction; the rest is 32 random bytes, urlsafe."""


@dataclass(slots=True, eq=False)
class Call:
    """One request under way. `abort` drops the client's connection, which ends the call."""

    transport: asyncio.Transport | None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    reading: Reading | None = None

    @property
    def finished(self) -> bool:
        """The answer is whole; only the end of its connection is to come."""
        return self.reading is not None and self.reading.finished

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@dataclass(slots=True, eq=False)
class Sitting:
    """A token's open turn: its calls under way and the bookings of those that ended; the first
    refusal that one of them met; whether a person has stopped it; and what it has outside.
    """

    turn: Turn
    outing: Outing
    calls: set[Call] = field(default_factory=set)
    bookings: set[asyncio.Task[None]] = field(default_factory=set)
    refusal: Refusal | None = None
    halted: bool = False

    def cut(self) -> None:
        """Drop all that is under way."""
        for call in self.calls:
            call.abort()
        self.outing.cut()


@dataclass(slots=True, eq=False)
class Seat:
    """A token's place; without a sitting it is good for nothing."""

    sitting: Sitting | None = None


class Seats:
    """All tokens in force, by their SHA-256: a look-up tells nothing of a token by its time."""

    def __init__(self) -> None:
        self._seats: dict[bytes, Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def issue(self) -> str:
        token = PREFIX + secrets.token_urlsafe(32)
        self._seats[_digest(token)] = Seat()
        return token

    def find(self, tokens: Iterable[str]) -> Seat | None:
        """The seat of the first of these that is a token in force."""
        for token in tokens:
            if (seat := self._seats.get(_digest(token))) is not None:
                return seat
        return None

    def remove(self, token: str) -> Seat | None:
        return self._seats.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
