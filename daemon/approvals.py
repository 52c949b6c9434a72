"""Approvals: a call of a tool that a profile's `ask` names is let through on a person's word only.

The agent's side asks and waits for a minute; the person's side decides, once. What lies between
them is in the ledger: days and restarts lose nothing. Who may decide: docs/security.md.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from daemon import texts
from daemon.budgets import Raise, read_raise
from daemon.clock import Clock
from daemon.model import (
    COMMAND_LINE,
    RAISE,
    Approval,
    ApprovalId,
    ApprovalState,
    Audited,
    ConversationId,
    JsonObject,
    NewEffect,
    Sender,
    Trust,
    Turn,
    Verdict,
    canonical,
    new_approval_id,
    offer_id,
)
from daemon.ports import Connector, HasButtons, Ledger, Permission, Tell

log = structlog.get_logger()

WAIT_SECONDS = 60.0  # a live turn holds its slot so long; then it ends, and the word comes later
MOST_INPUT = 20_000  # characters of a call's input as JSON: more is not put before anybody
MOST_SHOWN = 2_500  # characters, beside the buttons
SHELL = Sender(COMMAND_LINE, "an operator at the shell", Trust.OPERATOR)

# These change no more than the conversation's own files, and show what they do; what no agent asked
# for hides nothing either. All else is risky: whoever asked for it does not approve it.
_TAME = frozenset({"Read", "Glob", "Grep", "Write", "Edit", RAISE})

# --- what the agent reads

_TOO_LONG = (
    "Nothing was done: a person has to approve this call, and its input is too long to be judged. "
    f"Keep it below {MOST_INPUT} characters."
)
_TOO_MANY = (
    "Nothing was done: several calls of yours wait for a person already. Say so, and end your "
    "answer; the decisions will come as messages."
)
_WAITS = (
    "Nothing was done yet: this call waits for a person's approval. Do not try it again, nor in "
    "another way. Say that it waits, and end your answer; the decision will come as a message."
)
_DENIED = (
    "Nothing was done: a person has denied this call. Do not try it again, nor in another way. Go "
    "on without it, or say what it was for."
)
_USED = (
    "Nothing was done: the approval was for one call, which has been made. Make this call again if "
    "it is to be made twice."
)
_APPROVED_LATER = (
    "This call of yours is approved, once: {tool} {input}\n"
    "Make it now with exactly this input, and go on."
)
_DENIED_LATER = (
    "This call of yours is denied: {tool} {input}\n"
    "Do not make it, nor in another way. Go on without it, or say what it was for."
)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What became of somebody's word; `told` is for them alone, where it did not count."""

    counted: bool
    told: str = ""


def refusal(approval: Approval, by: Sender, *, approve: bool) -> str:
    """Why somebody may not decide, for them; empty: they may. Anybody who may decide may deny."""
    if by.trust is not Trust.OPERATOR:
        return texts.ONLY_OPERATORS
    if approve and approval.tool not in _TAME and by.id in approval.requesters:
        return texts.NOT_YOUR_OWN
    return ""


def shown(approval: Approval) -> str:
    """A call's input beside the buttons: all of it, or its beginning with how long it is."""
    text = readable(approval.input)
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]}\n… ({len(text):,} characters in all: postroom approvals list)"


def readable(input_: str) -> str:
    """A call's input for a person, as JSON. What would not be seen in it is told by its code, as
    JSON writes it.
    """
    text = json.dumps(json.loads(input_), indent=2, ensure_ascii=False)
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    return char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]


class Approvals:
    """Both sides. `wake` and `wake_delivery` say that a conversation, or a connector's outbox, has
    something new, `say` says a sentence of ours in a turn's conversation, `raised` hears that the
    ledger has more for a budget; `wait` is seconds that a live turn waits.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        connectors: Mapping[str, Connector],
        wake: Callable[[ConversationId], None],
        wake_delivery: Callable[[str], None],
        tell: Tell,
        say: Callable[[Turn, str, str], Awaitable[None]],
        raised: Callable[[Raise], Awaitable[None]],
        wait: float,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._connectors = connectors
        self._wake = wake
        self._wake_delivery = wake_delivery
        self._tell = tell
        self._say = say
        self._raised = raised
        self._wait = wait
        self._waiting: dict[ApprovalId, asyncio.Event] = {}

    # --- the agent's side

    async def ask(
        self, turn: Turn, tool: str, arguments: JsonObject, *, patient: bool
    ) -> Permission:
        """Whether a call of a running turn may go on. `patient`: it may be waited for; a turn waits
        once. Raises LedgerError.
        """
        asked = Approval(
            id=new_approval_id(),
            conversation=turn.conversation,
            connector=turn.connector,
            turn=turn.id,
            tool=tool,
            input=canonical(arguments),
            requesters=frozenset(stored.message.sender.id for stored in turn.messages),
            asked_at=self._clock.now(),
        )
        if len(asked.input) > MOST_INPUT:
            return Permission(granted=False, reason=_TOO_LONG)
        known = await self._ledger.request(asked, self._request(asked))
        if known is None:
            return Permission(granted=False, reason=_TOO_MANY, waits=True)
        self._wake_delivery(turn.connector)
        if known.state is ApprovalState.PENDING:
            return await self._wait_for(turn, known, patient=patient)
        return _permission(known)

    async def _wait_for(self, turn: Turn, approval: Approval, *, patient: bool) -> Permission:
        log.info("approval.pending", approval=approval.id, tool=approval.tool, turn=turn.id)
        buttons = self._buttons(approval)
        if buttons is None:
            await self._tell_people(approval)
        if patient:
            await self._until_decided(approval.id)
        taken = await self._ledger.take(approval.id, turn.id)
        if taken is None or taken.state is not ApprovalState.PENDING:
            return _permission(taken)
        if buttons is not None:  # nobody who may has seen them, it seems
            await self._tell_people(approval)
        if patient:
            await self._say(turn, texts.WAITS, f"{approval.id}/waits")
        return Permission(granted=False, reason=_WAITS, waits=True)

    async def _until_decided(self, id_: ApprovalId) -> None:
        """At most as long as a turn waits. A word that came before is in the ledger by now."""
        event = self._waiting.setdefault(id_, asyncio.Event())
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(event.wait())]
        waits.append(asyncio.ensure_future(self._clock.sleep(self._wait)))
        try:
            known = await self._ledger.approval(id_)
            if known is not None and known.state is ApprovalState.PENDING:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.pop(id_, None)
            for wait in waits:
                wait.cancel()

    async def _tell_people(self, approval: Approval) -> None:
        text = (
            f"{approval.connector}: {approval.id} waits for a person, who may look at it by "
            f"`postroom approvals list`, then approve or deny it: a call of {approval.tool} in "
            f"{approval.conversation}"
        )
        aside = textwrap.indent(shown(approval), "    ")
        await self._tell(approval.id, text, f"It is called with\n\n{aside}")

    def _request(self, approval: Approval) -> tuple[NewEffect, ...]:
        connector = self._buttons(approval)
        if connector is None:
            return ()
        text = texts.ASKS.format(tool=approval.tool)
        return (connector.compose_request(approval, text, shown(approval)),)

    def _buttons(self, approval: Approval) -> HasButtons | None:
        connector = self._connectors.get(approval.connector)
        if isinstance(connector, HasButtons):
            return connector
        return None

    # --- the daemon's own side

    async def offer(self, turn: Turn, more: Raise, text: str, key: str) -> bool:
        """Say a sentence in a turn's conversation, with buttons by which an operator raises a
        budget; once for a `key`. False: nothing was said, as there are no buttons there. Raises
        LedgerError.
        """
        connector = self._connectors[turn.connector]
        if not isinstance(connector, HasButtons):
            return False
        offered = Approval(
            id=offer_id(key),
            conversation=turn.conversation,
            connector=turn.connector,
            turn=turn.id,
            tool=RAISE,
            input=canonical(more.as_json()),
            requesters=frozenset(),
            asked_at=self._clock.now(),
        )
        said = f"{text} {texts.OFFER.format(dollars=more.dollars)}"
        post = connector.compose_request(offered, said, shown(offered))
        await self._ledger.offer(offered, (post,))
        self._wake_delivery(turn.connector)
        return True

    # --- the person's side

    async def decide(self, id_: ApprovalId, by: Sender, *, approve: bool) -> Ruling:
        """Somebody's word: it counts once, from those who may. Raises LedgerError."""
        approval = await self._ledger.approval(id_)
        if approval is None:
            return Ruling(counted=False, told=texts.EXPIRED)
        if told := refusal(approval, by, approve=approve):
            log.info("approval.refused", approval=id_, by=by.id)
            facts = {"approval": id_, "turn": approval.turn, "tool": approval.tool}
            facts["word"] = "approve" if approve else "deny"
            entry = Audited("approval.refused", by.id, approval.conversation, facts)
            await self._ledger.audit(entry)
            return Ruling(counted=False, told=told)
        more = read_raise(approval.input) if approval.tool == RAISE else None
        if more is not None and more.until is not None and more.until <= self._clock.now():
            return await self._too_late(id_)
        words = _APPROVED_LATER if approve else _DENIED_LATER
        verdict = Verdict(approve, by, words.format(tool=approval.tool, input=approval.input))
        outcome = self._outcome(approval, _came_of_it(more, by, approve=approve))
        decided = await self._ledger.decide(id_, verdict, outcome)
        if decided is None:
            return await self._too_late(id_)
        log.info("approval.decided", approval=id_, state=decided.state.value, by=by.id)
        if (event := self._waiting.get(id_)) is not None:
            event.set()
        if more is not None and approve:
            await self._raised(more)
        self._wake(decided.conversation)
        self._wake_delivery(decided.connector)
        return Ruling(counted=True)

    async def _too_late(self, id_: ApprovalId) -> Ruling:
        approval = await self._ledger.approval(id_)
        if approval is not None and approval.decider_name:
            told = texts.DECIDED_ALREADY.format(who=approval.decider_name)
            return Ruling(counted=False, told=told)
        if approval is not None:  # the buttons go, now that somebody has seen them
            await self._ledger.add_effects(self._outcome(approval, texts.EXPIRED))
            self._wake_delivery(approval.connector)
        return Ruling(counted=False, told=texts.EXPIRED)

    def _outcome(self, approval: Approval, text: str) -> tuple[NewEffect, ...]:
        connector = self._buttons(approval)
        if connector is None:
            return ()
        return (connector.compose_outcome(approval, text, shown(approval)),)


def _came_of_it(more: Raise | None, by: Sender, *, approve: bool) -> str:
    """What stands where the buttons were."""
    if more is None:
        return (texts.APPROVED if approve else texts.DENIED).format(who=by.name)
    return (texts.RAISED if approve else texts.NOT_RAISED).format(who=by.name, dollars=more.dollars)


def _permission(taken: Approval | None) -> Permission:
    """What a word that was taken means for the call. None: another call was let through by it."""
    if taken is None:
        return Permission(granted=False, reason=_USED)
    granted = taken.state is ApprovalState.USED
    return Permission(granted=granted, reason="" if granted else _DENIED)
