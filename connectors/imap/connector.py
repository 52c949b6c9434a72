"""The mail connector: wires its parts, runs them, and says how they are.

A mail's way in: mailbox -> fetch -> parse -> `inbound.read` -> intake.accept. Its answer's way out:
compose -> SMTP -> written down -> a copy in Sent; or a draft, or a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from connectors.imap import outbound, tools
from connectors.imap.client import Limits
from connectors.imap.config import ADDRESS, ImapTable
from connectors.imap.copies import AFTER_SECONDS, AGAIN_SECONDS, Copies, Taken
from connectors.imap.diagnosis import diagnose
from connectors.imap.filing import LOOK_APART_SECONDS, Filing
from connectors.imap.inbound import reader
from connectors.imap.mailbox import Mailbox
from connectors.imap.proof import Timing
from connectors.imap.smtp import Smtp, SmtpTiming
from daemon.clock import DAY_SECONDS, day_of
from daemon.model import (
    Answer,
    Effect,
    EffectId,
    EffectKind,
    Finding,
    Health,
    HealthState,
    JsonObject,
    NewEffect,
    Priority,
    Receipt,
    Rejected,
    Sent,
    Sighting,
    Turn,
)
from daemon.plugin import Plugin, Surroundings
from daemon.ports import Intake, ToolSpec

log = structlog.get_logger()

CHECK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds; the tests have them shorter."""

    mailbox: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    smtp: SmtpTiming = field(default_factory=SmtpTiming)
    copy_after: float = AFTER_SECONDS
    copy_again: float = AGAIN_SECONDS
    look_apart: float = LOOK_APART_SECONDS


class ImapConnector:
    """The ports Connector, Notifies, Describes, OffersTools and Diagnoses for one mailbox."""

    kind = "imap"
    priority = Priority.MAIL
    tools: tuple[ToolSpec, ...] = tools.TOOLS

    def __init__(
        self, name: str, table: ImapTable, around: Surroundings, *, pace: Pace | None = None
    ) -> None:
        pace = pace or Pace()
        self.name = name
        self.scheme = "mail" if table.smtp else ""  # without SMTP nobody can be written to
        self._table = table
        self._clock = around.clock
        self._outbox = around.outbox
        self._tell = around.tell
        self._mailbox = Mailbox(
            name=name,
            table=table,
            clock=around.clock,
            data_dir=around.data_dir,
            read=reader(name, table, around.operators, around.tell),
            timing=pace.mailbox,
            limits=pace.limits,
        )
        self._smtp = Smtp(table.smtp, table.domain, around.clock, pace.smtp) if table.smtp else None
        self._filing = Filing(self._mailbox, around.clock, pace.look_apart)
        self._copies = Copies(
            around.data_dir / "sent" / name,
            self._filing,
            around.clock,
            after=pace.copy_after,
            again=pace.copy_again,
        )

    # --- life

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        """Until cancelled. Raises AuthenticationFailed when IMAP refuses us, and Unavailable. What
        is wrong with SMTP stops nothing: mail still comes in, and answers wait.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copies.run(), name=f"{self.name} copies")
                group.create_task(self._watch_smtp(), name=f"{self.name} smtp")
                group.create_task(self._mailbox.run(intake, ready), name=f"{self.name} mailbox")
        except BaseExceptionGroup as failure:
            raise _first(failure) from None

    async def _watch_smtp(self) -> None:
        """Try it at the start, so that a wrong password is known before the first answer; and
        again while something is wrong, so that health says when it is mended.
        """
        if self._smtp is None:
            return
        watch = asyncio.current_task()
        assert watch is not None  # noqa: S101 - a coroutine runs in one
        await self._smtp.check(self._table.address)
        # Python 3.11's asyncio.wait_for, by which aiosmtplib waits, loses a cancel that comes
        # together with a reply: this watch would go on, and `run` never end (measured).
        while not watch.cancelling():
            await self._clock.sleep(CHECK_AGAIN_SECONDS)
            if self._smtp.trouble:
                await self._smtp.check(self._table.address)

    # --- out

    async def compose(self, answer: Answer) -> tuple[NewEffect, ...]:
        spent = ""
        if answer.final and outbound.may_send(answer, self._table):
            spent = await self._spent(answer)
        elif answer.final:
            holds = {str(message.target.get("hold", "")) for message in answer.messages}
            log.info("answer.held", turn=answer.turn, reasons=sorted(holds))
        day = day_of(self._clock.now())
        return outbound.compose(answer, self._table, spent=spent, day=day)

    async def _spent(self, answer: Answer) -> str:
        """R10: which of a day's quotas is used up, in words for operators (no addresses)."""
        since = self._clock.now() - DAY_SECONDS
        table, kind = self._table, EffectKind.REPLY
        sent = await self._outbox.count_sent(
            self.name, kind, since, conversation=answer.conversation
        )
        if sent >= table.max_replies_per_thread_daily:
            return f"{sent} replies today to the conversation {answer.conversation}"
        for sender in sorted({message.sender.id for message in answer.messages}):
            sent = await self._outbox.count_sent(self.name, kind, since, sender=sender)
            if sent >= table.max_replies_per_sender_daily:
                return f"{sent} replies today to the sender of {answer.conversation}"
        return ""

    def compose_tool(
        self, tool: str, arguments: JsonObject, key: str, turn: Turn
    ) -> NewEffect | str:
        return tools.compose_tool(self.name, tool, arguments, key, turn)

    def compose_notice(self, key: str, address: str, text: str) -> NewEffect:
        return outbound.compose_notice(self._table, self.name, key, address, text)

    def describe(self, effect: Effect) -> str:
        return outbound.describe(effect)

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        match effect.kind:
            case EffectKind.NOTICE if effect.target.get("people"):
                await sending()
                await self._tell(effect.id, str(effect.body["text"]))
                return Sent(effect.id)
            case EffectKind.REPLY if self._table.mode != "reply":
                # The brake: what waits when a person takes sending away becomes a draft.
                draft = replace(effect, kind=EffectKind.DRAFT)
                return await self._filing.leave_draft(outbound.envelope(draft), sending)
            case EffectKind.REPLY | EffectKind.NOTICE:
                return await self._send(effect, sending)
            case EffectKind.DRAFT:
                return await self._filing.leave_draft(outbound.envelope(effect), sending)
            case EffectKind.LABEL:
                return await self._filing.label(effect, sending)
        return Rejected(f"a mailbox carries out no {effect.kind.value}")

    async def _send(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        mail = outbound.envelope(effect)
        if self._smtp is None:
            return Rejected("there is no smtp in the table of this connector")
        if not mail.recipients or not all(map(ADDRESS.fullmatch, mail.recipients)):
            return Rejected("there is no address that mail can be sent to")
        receipt = await self._smtp.send(mail, sending)
        if isinstance(receipt, Sent):
            try:
                taken = Taken(mail.message_id, mail.raw, outbound.mails_of(effect))
                await self._copies.keep(effect.id, taken)
            except OSError as error:  # it has gone out all the same
                log.warning("copy.not_kept", effect=effect.id, reason=type(error).__name__)
        return receipt

    async def find(self, effect: Effect) -> Sent | Sighting:
        """Raises Unavailable while the mailbox cannot be asked."""
        match effect.kind:
            case EffectKind.NOTICE if effect.target.get("people"):
                return Sighting.ABSENT  # telling twice is telling once: the key sees to that
            case EffectKind.LABEL:
                return await self._filing.find_label(effect)
            case EffectKind.DRAFT:
                return await self._filing.find_draft(outbound.envelope(effect))
            case EffectKind.REPLY | EffectKind.NOTICE:
                mail = outbound.envelope(effect)
                if await self._copies.has(effect.id):
                    return Sent(mail.message_id)
                return await self._filing.find_sent(mail)
        return Sighting.ABSENT

    async def kept(self) -> tuple[EffectId, ...]:
        return await self._copies.kept()

    async def forget(self, effect: EffectId) -> None:
        await self._copies.forget(effect)

    # --- health

    def health(self) -> Health:
        """SURFACE: SELECT and SEARCH done, and a probe answered within a minute."""
        now = self._mailbox.condition()
        troubles = [
            now.trouble,
            self._smtp.trouble if self._smtp else "",
            self._copies.trouble,
        ]
        detail = "; ".join(trouble for trouble in troubles if trouble)
        numbers: dict[str, float | int | str | bool | None] = {
            "state": now.state,
            "searched_age_seconds": _rounded(now.ages.searched),
            "registered": now.registered,
            "behind": now.behind,
            "uid": now.uid,
            "handed_over": self._smtp.handed_over if self._smtp else 0,
            "copies_waiting": self._copies.waiting,
        }
        if not now.ages.alive:
            detail = detail or f"not proven alive ({now.state})"
            return Health(HealthState.FAIL, detail, False, now.ages.probed, numbers)
        state = HealthState.WARN if detail else HealthState.PASS
        return Health(state, detail, True, now.ages.probed, numbers)

    async def diagnose(self, *, live: bool) -> tuple[Finding, ...]:
        return await diagnose(self.name, self._table, self._clock, live=live)


def _first(error: BaseException) -> BaseException:
    """The first single failure of nested task groups: what the supervisor can judge."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _rounded(age: float | None) -> float | None:
    return None if age is None else round(age, 1)


PLUGIN = Plugin("imap", ImapTable, ImapConnector)
