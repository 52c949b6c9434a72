"""What each budget has spent and holds, in memory; the ledger has it all.

A call is paid from several budgets. Before it is made it holds of each the most that it can cost,
so neither one call nor many at once take a budget beyond its limit; a call that has begun is never
cut off for its price. The first call that no longer fits closes a budget, until its limit is raised
or its day is over.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from daemon.budgets import Budget, Limits, Raise, Scope, Statement
from daemon.clock import DAY_SECONDS, Clock, day_of
from daemon.gateway.bell import Bell
from daemon.model import Turn
from daemon.ports import Refusal

SHARES = (0.75, 0.95)  # of a limit; people are told when so much of it is spent
PATIENCE_SECONDS = 60.0  # for what calls under way hold; the CLI gives up on a request after 120 s

Spent = Callable[[Sequence[Budget], float], Awaitable[tuple[float, ...]]]
"""The ledger's `spent`."""


@dataclass(frozen=True, slots=True)
class Nearing:
    """A budget has reached a share of its limit; `spent` and `limit` in US dollars. `share` 1.0: a
    call was refused for it. `turn` is the one whose call it was.
    """

    budget: Budget
    share: float
    spent: float
    limit: float
    turn: Turn


@dataclass(slots=True, eq=False)
class Purse:
    """A budget's money: spent on `day` (ever, where it is not daily), held by `calls` under way.

    What follows belongs to one day and one `limit`: `closed` once a call was refused for it, `told`
    is the share of it that people were told of.
    """

    budget: Budget
    day: int
    spent: float = 0.0
    held: float = 0.0
    calls: int = 0
    limit: float | None = None
    closed: bool = False
    told: float = 0.0


class Purses:
    """All purses that are in use. `nearing` is called once for each share, day and limit."""

    def __init__(
        self, clock: Clock, limits: Limits, spent: Spent, nearing: Callable[[Nearing], None]
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._spent = spent
        self._nearing = nearing
        self._purses: dict[Budget, Purse] = {}
        self._raises: dict[Budget, list[Raise]] = defaultdict(list)
        self._day = day_of(clock.now())
        self._moved = Bell()

    async def load(self, raises: Iterable[Raise]) -> None:
        """Begin with what the ledger has. Raises LedgerError."""
        self._raises.clear()
        for more in raises:
            self._raises[more.budget].append(more)
        await self.open((Budget(Scope.ALL),))

    def limit(self, limits: Limits) -> None:
        """Other limits; what was spent stays spent."""
        self._limits = limits
        self._moved.ring()

    def raise_by(self, more: Raise) -> None:
        self._raises[more.budget].append(more)
        self._moved.ring()

    async def open(self, budgets: Sequence[Budget]) -> tuple[Purse, ...]:
        """The purses of these budgets. Raises LedgerError: what is spent cannot be known."""
        self._tidy()
        missing = [budget for budget in budgets if budget not in self._purses]
        if missing:
            today = day_of(self._clock.now())
            amounts = await self._spent(missing, today * DAY_SECONDS)
            for budget, spent in zip(missing, amounts, strict=True):
                self._purses.setdefault(budget, Purse(budget, today, spent))
        return tuple(self._purses[budget] for budget in budgets)

    # --- one call -------------------------------------------------------------------------------

    async def reserve(
        self, turn: Turn, purses: Sequence[Purse], least: float, most: float
    ) -> float | Refusal | None:
        """Hold `most` dollars for a call of this turn, or as much as is left, but no less than
        `least`; return how much. None: calls under way held what was needed for too long.
        """
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while (tight := self._tight(purses, least)) is not None:
            if tight.closed or not tight.calls or self._room(tight) + tight.held < least:
                self._close(tight, turn)
                return Refusal(tight.budget)
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return None
            await self._moved.wait(left)
        amount = min([most, *map(self._room, purses)])
        for purse in purses:
            purse.held += amount
            purse.calls += 1
        return amount

    def settle(
        self, turn: Turn, purses: Sequence[Purse], held: float, cost: float, started_at: float
    ) -> None:
        """Let go of what a call held and count what it came to. It belongs to the day on which it
        started, as it does in the ledger.
        """
        for purse in purses:
            limit = self._look(purse)
            purse.calls -= 1
            purse.held = purse.held - held if purse.calls else 0.0
            if not purse.budget.scope.daily or day_of(started_at) == purse.day:
                purse.spent += cost
            reached = max((s for s in SHARES if limit and purse.spent >= s * limit), default=0.0)
            self._tell(purse, reached, turn)
        self._moved.ring()

    # --- looking --------------------------------------------------------------------------------

    def refusal(self, purses: Sequence[Purse]) -> Refusal | None:
        """Why a turn that is paid from these need not begin."""
        tight = self._tight(purses, 0.0)
        return Refusal(tight.budget) if tight is not None and not tight.calls else None

    @property
    def spent_today(self) -> float:
        purse = self._all
        self._look(purse)
        return purse.spent

    def blocked(self) -> Refusal | None:
        """While the budget of all is spent."""
        return self.refusal((self._all,))

    async def statements(self) -> tuple[Statement, ...]:
        """How every budget with a limit stands that is in use or stands in the configuration.
        Raises LedgerError.
        """
        named = [Budget(Scope.CHANNEL, channel) for channel in self._limits.channels]
        named += [Budget(Scope.CONNECTOR, name) for name in self._limits.connectors]
        await self.open([*named, Budget(Scope.PUBLIC), Budget(Scope.ALL)])
        found = []
        for purse in self._purses.values():
            limit = self._look(purse)
            if limit is not None and purse.budget.scope is not Scope.TURN:
                raised = limit - (self._limits.of(purse.budget) or 0.0)
                found.append(
                    Statement(
                        purse.budget, limit, purse.spent, purse.held, raised, closed=purse.closed
                    )
                )
        return tuple(found)

    @property
    def _all(self) -> Purse:
        return self._purses.setdefault(
            Budget(Scope.ALL), Purse(Budget(Scope.ALL), day_of(self._clock.now()))
        )

    # --- inside ---------------------------------------------------------------------------------

    def _tight(self, purses: Sequence[Purse], least: float) -> Purse | None:
        """The first of them that is closed, or has less than so much left, or nothing."""
        for purse in purses:
            room = self._room(purse)
            if purse.closed or room < least or room <= 0:
                return purse
        return None

    def _room(self, purse: Purse) -> float:
        limit = self._look(purse)
        return math.inf if limit is None else limit - purse.spent - purse.held

    def _look(self, purse: Purse) -> float | None:
        """The purse's limit as of now. What another day spent or another limit decided is gone."""
        today, limit = day_of(self._clock.now()), self._limit_of(purse.budget)
        over = purse.budget.scope.daily and purse.day != today
        if over:
            purse.spent = 0.0
        if over or limit != purse.limit:
            purse.closed, purse.told = False, 0.0
        purse.day, purse.limit = today, limit
        return limit

    def _limit_of(self, budget: Budget) -> float | None:
        limit, now = self._limits.of(budget), self._clock.now()
        if limit is None:
            return None
        added = self._raises.get(budget, ())
        return limit + sum(m.dollars for m in added if m.until is None or m.until > now)

    def _close(self, purse: Purse, turn: Turn) -> None:
        purse.closed = True
        self._tell(purse, 1.0, turn)

    def _tell(self, purse: Purse, share: float, turn: Turn) -> None:
        """Of a turn's own budget only its end is told: it lasts for minutes."""
        if purse.limit is None or share <= purse.told or purse.budget.scope is Scope.TURN:
            return
        purse.told = share
        self._nearing(Nearing(purse.budget, share, purse.spent, purse.limit, turn))

    def _tidy(self) -> None:
        """At the turn of a day let go of what was not used since the one before."""
        today = day_of(self._clock.now())
        if today != self._day:
            self._day = today
            kept = {b: p for b, p in self._purses.items() if p.calls or p.day >= today - 1}
            self._purses = kept
