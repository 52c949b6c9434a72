"""What bounds money: scopes, whose a budget is, the limits, and which budgets a turn is paid from.

Values and pure functions; amounts are US dollars, days are UTC days. Who holds and refuses by them
is `gateway/purses.py`, what was booked is the ledger's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from daemon.model import JsonObject, Trust, Turn


class Scope(StrEnum):
    """What a budget bounds, the narrowest first; also the label of budget_refusals_total."""

    TURN = "per_turn"
    CONVERSATION = "per_conversation"
    SENDER = "per_sender_daily"
    CHANNEL = "channel_daily"
    CONNECTOR = "connector_daily"
    PUBLIC = "public_daily"
    ALL = "daily"

    @property
    def daily(self) -> bool:
        """Spent by UTC day: a turn that it refuses waits for the next one. The others end it."""
        return self not in {Scope.TURN, Scope.CONVERSATION}

    @property
    def shared(self) -> bool:
        """There is one such budget only: it is nobody's in particular."""
        return self in {Scope.PUBLIC, Scope.ALL}


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget. `whose` is the id of its turn, conversation, sender, channel or connector; empty
    for what is shared. Written as "daily" or "per_sender_daily:slack:T1:U1".
    """

    scope: Scope
    whose: str = ""

    def __str__(self) -> str:
        return f"{self.scope}:{self.whose}" if self.whose else self.scope.value


def read_budget(text: str) -> Budget:
    """A budget as it is written. Raises ValueError, with a sentence that says what to write."""
    name, _, whose = text.partition(":")
    try:
        scope = Scope(name)
    except ValueError:
        known = ", ".join(scope for scope in Scope if scope is not Scope.TURN)
        raise ValueError(f"there is no budget {name!r}; there are {known}") from None
    if scope is Scope.TURN:
        raise ValueError("a turn's budget ends with the turn: set budgets.per_turn and send SIGHUP")
    if scope.shared and whose:
        raise ValueError(f"{scope} is one for all: write only {scope}")
    if not scope.shared and not whose:
        raise ValueError(f"say whose: {scope}:ID, as `postroom budgets list` shows it")
    return Budget(scope, whose)


@dataclass(frozen=True, slots=True)
class Limits:
    """The configuration's limits; None, and a channel or connector that is not named: no limit."""

    per_turn: float | None = None
    per_conversation: float | None = None
    per_sender_daily: float | None = None
    public_daily: float | None = None
    daily: float | None = None
    channels: Mapping[str, float] = field(default_factory=dict)
    connectors: Mapping[str, float] = field(default_factory=dict)

    def of(self, budget: Budget) -> float | None:
        match budget.scope:
            case Scope.TURN:
                return self.per_turn
            case Scope.CONVERSATION:
                return self.per_conversation
            case Scope.SENDER:
                return self.per_sender_daily
            case Scope.CHANNEL:
                return self.channels.get(budget.whose)
            case Scope.CONNECTOR:
                return self.connectors.get(budget.whose)
            case Scope.PUBLIC:
                return self.public_daily
            case Scope.ALL:
                return self.daily


@dataclass(frozen=True, slots=True)
class Raise:
    """An operator's addition to one budget's limit, until a time (None: for good)."""

    budget: Budget
    dollars: float
    until: float | None

    def as_json(self) -> JsonObject:
        """As it is put before people."""
        until = self.until
        day = None if until is None else datetime.fromtimestamp(until, UTC).isoformat()
        return {"budget": str(self.budget), "dollars": self.dollars, "until": day}


def read_raise(text: str) -> Raise:
    """What `as_json` gave, as JSON text."""
    told = json.loads(text)
    until = told["until"] and datetime.fromisoformat(told["until"]).timestamp()
    return Raise(read_budget(told["budget"]), told["dollars"], until)


@dataclass(frozen=True, slots=True)
class Statement:
    """How a budget stands, in US dollars. `raised` is the part of its limit that operators added;
    `held` belongs to calls under way; `closed` says that a call was refused for it.
    """

    budget: Budget
    limit: float
    spent: float
    held: float
    raised: float
    closed: bool


def drawn_on(turn: Turn, channel: str) -> tuple[Budget, ...]:
    """The budgets that a turn's calls are paid from, the narrowest first. `channel` is the one that
    its conversation lies in ("": none).
    """
    found = [
        Budget(Scope.TURN, turn.id),
        Budget(Scope.CONVERSATION, turn.conversation),
        Budget(Scope.SENDER, turn.booked_on),
    ]
    if channel:
        found.append(Budget(Scope.CHANNEL, channel))
    found.append(Budget(Scope.CONNECTOR, turn.connector))
    if turn.trust is Trust.PUBLIC:
        found.append(Budget(Scope.PUBLIC))
    return (*found, Budget(Scope.ALL))
