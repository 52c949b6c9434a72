"""Budgets and people: what they hear of them, and how an operator adds to one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog

from daemon import texts
from daemon.budgets import Budget, Limits, Raise, Scope, read_budget
from daemon.clock import Clock, day_of, next_day
from daemon.endings import why_refused
from daemon.errors import LedgerError
from daemon.gateway import Nearing
from daemon.model import ConversationId, JsonObject, Turn
from daemon.ports import Ledger, Tell

log = structlog.get_logger()


class Say(Protocol):
    """How a sentence of ours is said in a turn's conversation, once for what `once` names."""

    def __call__(self, turn: Turn, text: str, key: str, *, once: str) -> Awaitable[None]: ...


class Ask(Protocol):
    """How a sentence is said together with buttons that raise a budget, once for a key. False:
    nothing was said, as nobody could press them.
    """

    def __call__(self, turn: Turn, more: Raise, text: str, key: str) -> Awaitable[bool]: ...


class Budgeting:
    """`limits` are the configuration's of now, `add` is the gateway's, and `wake` has the
    dispatcher look at a conversation again.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        limits: Callable[[], Limits],
        add: Callable[[Raise], None],
        tell: Tell,
        say: Say,
        ask: Ask,
        wake: Callable[[ConversationId], None],
    ) -> None:
        self._ledger, self._clock, self._limits = ledger, clock, limits
        self._add, self._tell, self._say, self._wake = add, tell, say, wake
        self._ask = ask

    async def tell(self, news: Nearing) -> None:
        """Operators hear of every budget, people of their conversation's in its thread: once for a
        share, a limit, and a day where it is a daily one. Of a conversation whose budget is spent
        the turn tells that ends by it.
        """
        budget, limit, percent = news.budget, f"{news.limit:.2f}", round(news.share * 100)
        if budget.scope is Scope.CONVERSATION and news.share >= 1:
            return
        day = str(day_of(self._clock.now())) if budget.scope.daily else "ever"
        how = "spent" if news.share >= 1 else f"spent to {percent} %"
        await self._tell(
            f"budget/{budget}/{day}/{limit}/{percent}",
            f"the budget {budget} is {how}: ${news.spent:.2f} of ${limit}; "
            f"`postroom budgets raise {budget} DOLLARS` adds to it",
        )
        if budget.scope is Scope.CONVERSATION:
            text, once = texts.NEAR_BUDGET.format(percent=percent), f"{budget}/{limit}"
            if not await self.offer(news.turn, budget, text, f"{once}/{percent}"):
                await self._say(news.turn, text, f"budget/{percent}", once=once)

    async def offer(self, turn: Turn, budget: Budget, text: str, key: str) -> bool:
        """Say what became of a budget together with buttons by which an operator adds as much again
        as the configuration gives it. False: nothing was said. Raises LedgerError.
        """
        dollars = self._limits().of(budget)
        if dollars is None or budget.scope is Scope.TURN:
            return False
        until = next_day(self._clock.now()) if budget.scope.daily else None
        return await self._ask(turn, Raise(budget, dollars, until), text, key)

    async def raise_one(self, name: str, dollars: float, until: float | None) -> JsonObject:
        """More for one budget, at once for what waits for it; what was done, for people. `until`
        None: to the end of the UTC day, or for good where it is no daily one. Raises ValueError,
        with a sentence, and LedgerError.
        """
        budget, now = read_budget(name), self._clock.now()
        if self._limits().of(budget) is None:
            raise ValueError(f"{name} has no limit that could be raised")
        if until is None and budget.scope.daily:
            until = next_day(now)
        if until is not None and until <= now:
            raise ValueError("that time is over: name a day that is not")
        more = Raise(budget, dollars, until)
        await self._ledger.raise_budget(more)
        await self.raised(more)
        return {"budget": str(budget), "dollars": dollars, "until": until}

    async def raised(self, more: Raise) -> None:
        """What follows of more for a budget, once the ledger has it."""
        self._add(more)
        log.info("budget.raised", budget=str(more.budget), dollars=more.dollars, until=more.until)
        await self.release((more.budget.scope,))

    async def release(self, scopes: Iterable[Scope]) -> None:
        """What waits for such budgets is tried at once; whom it does not help is put back."""
        try:
            for scope in scopes:
                for conversation in await self._ledger.release(why_refused(scope)):
                    self._wake(conversation)
        except LedgerError:
            log.exception("budgets.not_released")  # they go on at midnight, as they were told
