"""The ways a turn can end or be put back: one method each, and each is one transaction.

Who is told what is decided here: the person in the conversation through the connector, operators
through `tell`; texts come from texts.py, never from an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from daemon import recovery, texts
from daemon.budgets import Budget, Scope
from daemon.clock import Clock, next_day
from daemon.metrics import Metrics
from daemon.model import NewEffect, Priority, Profile, Trust, Turn, TurnState, prompt_uuid
from daemon.ports import Agents, Connector, Ending, Ledger, Tell
from daemon.quoting import in_code

MAX_FAILURES = 3
GIVE_UP_SECONDS = 24 * 3600.0  # a turn that the model never answers is a dead letter after a day
LATE_SECONDS = 600.0  # heard so long after it was written, a chat message's answer says so
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 5.0, 600.0
_SPENT = {
    Scope.TURN: texts.TURN_BUDGET,
    Scope.CONVERSATION: texts.CONVERSATION_BUDGET,
    Scope.SENDER: texts.SENDER_BUDGET,
    Scope.CHANNEL: texts.CHANNEL_BUDGET,
    Scope.CONNECTOR: texts.CONNECTOR_BUDGET,
    Scope.PUBLIC: texts.PUBLIC_BUDGET,
    Scope.ALL: texts.DAILY_BUDGET,
}


def why_refused(scope: Scope) -> str:
    """The reason in the ledger of a turn that a budget ended or put back."""
    return f"budget: {scope}"


class Endings:
    """Every method returns a word for the turn's summary line. Raises LedgerError.

    `rests` says for how many seconds the model must be left alone. `offer` says a sentence together
    with buttons that raise its budget, once for a key; False: it said nothing.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        agents: Agents,
        clock: Clock,
        metrics: Metrics,
        rests: Callable[[], float],
        profiles: Callable[[Trust], Profile],
        connector: Callable[[str], Connector],
        wake_delivery: Callable[[str], None],
        tell: Tell,
        offer: Callable[[Turn, Budget, str, str], Awaitable[bool]],
    ) -> None:
        self._ledger = ledger
        self._agents = agents
        self._clock = clock
        self._metrics = metrics
        self._rests = rests
        self._profiles = profiles
        self._connector = connector
        self._wake_delivery = wake_delivery
        self._tell = tell
        self._offer = offer

    async def done(self, turn: Turn, text: str, reason: str = "") -> str:
        """The agent's answer leaves; its staged effects with it."""
        await asyncio.to_thread(self._agents.sync, turn.workspace)
        if text.strip():
            said = "\n\n".join(filter(None, (_how_late(turn), text)))
            effects = await self.compose(turn, said, "answer", final=True)
        else:
            effects = await self.compose(turn, texts.NO_TEXT, "answer")
        return await self._end(
            turn, Ending(TurnState.DONE, text, reason, effects, keep_staged=True)
        )

    async def out_of_steps(self, turn: Turn, text: str, steps: int) -> str:
        """The agent used up its steps: what it did stands, and the person decides."""
        said = "\n\n".join(filter(None, (text, texts.TOO_MANY_STEPS.format(steps=steps))))
        effects = await self.compose(turn, said, "steps")
        await self._tell_of(turn, f"used up its {steps} steps", f"postroom trace {turn.id}")
        return await self._end(
            turn, Ending(TurnState.DONE, text, "max_turns", effects, keep_staged=True)
        )

    async def stopped(self, turn: Turn) -> str:
        effects = await self.compose(turn, texts.STOPPED, "stopped")
        return await self._end(turn, Ending(TurnState.STOPPED, "", "a person stopped it", effects))

    async def refused(self, turn: Turn, budget: Budget, *, sent: bool) -> str:
        """A budget is spent. A daily one's turn waits for the next day (UTC), the person told once
        of each; a budget of the turn's or the conversation's own ends the turn with its sentence.
        """
        scope, text = budget.scope, _SPENT[budget.scope]
        self._metrics.budget_refusals.labels(scope).inc()
        offered = await self._offer(turn, budget, text, f"{turn.id}/{budget}")
        effects = () if offered else await self.compose(turn, text, f"refused/{scope}")
        if scope.daily:
            await self._put_back(
                turn,
                effects,
                why_refused(scope),
                not_before=next_day(self._clock.now()),
                sent=sent,
                told=turn.told,  # of the budget, and not of what else may come
            )
            return "postponed"
        what = f"ended: its budget {scope} is spent"
        await self._tell_of(turn, what, f"postroom trace {turn.id}")
        return await self._end(turn, Ending(TurnState.REFUSED, "", why_refused(scope), effects))

    async def outgrown(self, turn: Turn) -> str:
        """The conversation's files take up more room on the disk than they may. Its process must be
        gone. Whatever it is asked next may delete some of them.
        """
        why = "its conversation's files outgrew pool.disk_limit_mb"
        effects = await self.compose(turn, texts.OUTGROWN, "outgrown")
        await self._tell_of(turn, f"ended: {why}", f"postroom trace {turn.id}")
        await self._end(turn, Ending(TurnState.REFUSED, "", why, effects))
        return "outgrown"

    async def dead(self, turn: Turn, why: str) -> str:
        effects = await self.compose(turn, texts.GAVE_UP, "dead")
        await self._tell_of(turn, f"was given up on: {why}", f"postroom dead show {turn.id}")
        return await self._end(turn, Ending(TurnState.DEAD, "", why, effects))

    async def lost(self, turn: Turn, tools: tuple[str, ...]) -> str:
        why = f"cut off while {', '.join(tools)} was at work"
        effects = await self.compose(turn, texts.LOST, "lost")
        await self._tell_of(turn, f"is lost: {why}", f"postroom trace {turn.id}")
        return await self._end(turn, Ending(TurnState.LOST, "", why, effects))

    async def by_fate(self, turn: Turn, why: str, *, failed: bool = False) -> str:
        """The rule of attempts. The turn's process must be gone, or done with the uuid."""
        step: recovery.Step = recovery.Resend()
        if turn.attempt:
            uuid = prompt_uuid(turn.id, turn.attempt)
            fate = await asyncio.to_thread(self._agents.fate, turn.workspace, uuid)
            step = recovery.next_step(fate, self._profiles(turn.trust))
        if isinstance(step, recovery.Harvest):
            return await self.done(turn, step.text, "harvested")
        if isinstance(step, recovery.Lost):
            return await self.lost(turn, step.tools)
        if failed and turn.failures + 1 >= MAX_FAILURES:
            return await self.dead(turn, why)
        resend = isinstance(step, recovery.Resend)
        await self._ledger.requeue(
            turn.id,
            not_before=self._clock.now(),
            resend=resend and turn.attempt > 0,
            failed=failed,
            tools_done=step.tools_done,
            reason=why,
        )
        return "resend" if resend else "new_attempt"

    async def later(self, turn: Turn, text: str, why: str, *, sent: bool, told: bool) -> str:
        """Not the turn's fault: queued with a back-off, the person told once; a day at most.

        `sent` says whether the current attempt's prompt may have reached the transcript.
        """
        now = self._clock.now()
        if now - turn.claimed_at > GIVE_UP_SECONDS:
            return await self.dead(turn, why)
        backoff = min(_FIRST_BACKOFF_SECONDS * 2 ** min(turn.attempt, 10), _LAST_BACKOFF_SECONDS)
        not_before = now + max(backoff, self._rests())
        effects = () if told else await self.compose(turn, text, "later")
        await self._put_back(turn, effects, why, not_before=not_before, sent=sent, told=True)
        return "later"

    async def say(self, turn: Turn, text: str, key: str, *, once: str = "") -> None:
        """A sentence of ours to the person while the turn goes on: once a turn, or once for what
        the id `once` names.
        """
        await self._ledger.add_effects(await self.compose(turn, text, key, once=once))
        self._wake_delivery(turn.connector)

    async def _tell_of(self, turn: Turn, what: str, command: str) -> None:
        """So that a person knows whom this concerns: by mail nobody else is told."""
        text = f"{turn.id} {what}. Of {turn.conversation}: {command}"
        await self._tell(turn.id, text, _asked(turn))

    async def compose(
        self, turn: Turn, text: str, key: str, *, final: bool = False, once: str = ""
    ) -> tuple[NewEffect, ...]:
        answer = turn.answer(text, key, final=final, once=once)
        return await self._connector(turn.connector).compose(answer)

    async def _put_back(
        self,
        turn: Turn,
        effects: tuple[NewEffect, ...],
        why: str,
        *,
        not_before: float,
        sent: bool,
        told: bool,
    ) -> None:
        tools_done: frozenset[str] | None = None
        resend = turn.resend
        if sent:
            uuid = prompt_uuid(turn.id, turn.attempt)
            fate = await asyncio.to_thread(self._agents.fate, turn.workspace, uuid)
            tools_done, resend = fate.tools_done, not fate.present
        await self._ledger.requeue(
            turn.id,
            not_before=not_before,
            resend=resend,
            told=told,
            tools_done=tools_done,
            effects=effects,
            reason=why,
        )
        self._wake_delivery(turn.connector)

    async def _end(self, turn: Turn, ending: Ending) -> str:
        await self._ledger.end_turn(turn.id, ending)
        self._wake_delivery(turn.connector)
        return ending.state.value


def _asked(turn: Turn) -> str:
    first, more = turn.messages[0].message, len(turn.messages) - 1
    words = ["It was asked by", in_code(first.sender.name or first.sender.id)]
    if first.subject:
        words += ["under", in_code(first.subject)]
    if first.names:
        words += ["in", in_code(first.names[0].strip("<>"))]
    if more:
        words.append(f"and in {more} more")
    return " ".join(words) + "."


def _how_late(turn: Turn) -> str:
    """What an answer says first where a message was heard long after it was written: an outage lay
    between. Not in mail: it carries its own dates, and takes its time.
    """
    if turn.messages[0].message.priority is not Priority.CHAT:
        return ""
    late = max(stored.registered_at - stored.message.sent_at for stored in turn.messages)
    if late <= LATE_SECONDS:
        return ""
    hours = late >= 2 * 3600
    told = f"{late / 3600:.0f} hours" if hours else f"{late / 60:.0f} minutes"
    return texts.LATE.format(late=told)
