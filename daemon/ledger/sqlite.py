"""The port `Ledger` on SQLite: which named operation runs where, under which fence."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from daemon.budgets import Budget, Raise
from daemon.clock import Clock
from daemon.errors import LedgerError, OwnershipLost
from daemon.ledger import (
    approvals,
    audit,
    changes,
    costs,
    intake,
    letters,
    outbox,
    stories,
    turns,
    upkeep,
)
from daemon.ledger.lock import DataDirLock
from daemon.ledger.reader import Reader
from daemon.ledger.writer import Writer
from daemon.model import (
    COMMAND_LINE,
    Approval,
    ApprovalId,
    Audited,
    AuditHead,
    ConversationId,
    Cursor,
    Deleted,
    Edited,
    Effect,
    EffectId,
    EffectKind,
    Heard,
    Identity,
    JsonObject,
    KnownConversation,
    MessageId,
    ModelCall,
    NewEffect,
    ProcessRef,
    ReadyConversation,
    Registered,
    StoredMessage,
    Turn,
    TurnId,
    Verdict,
    Workspace,
)
from daemon.ports import ClaimLimits, Counts, Ending

P = ParamSpec("P")
T = TypeVar("T")
Job = Callable[Concatenate[sqlite3.Connection, P], T]


class SqliteLedger:
    """Made by `open_ledger`. The port's docstrings say what each operation does."""

    def __init__(
        self,
        *,
        path: Path,
        connection: sqlite3.Connection,
        epoch: int,
        clock: Clock,
        lock: DataDirLock | None,
    ) -> None:
        self._path = path
        self._data_dir = path.parent
        self._epoch = epoch
        self._clock = clock
        self._lock = lock
        self._writer = Writer(connection, path.with_name(path.name + "-wal"))
        self._reader = Reader(path)
        self._asked = Reader(path)  # what people ask may take long: the flow does not wait for it

    @property
    def epoch(self) -> int:
        return self._epoch

    async def _write(self, job: Job[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What anybody may write: not fenced."""
        return await self._writer.submit(lambda c: job(c, *arguments, **named))

    async def _own(self, job: Job[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What only the owner may write."""
        return await self._writer.submit(self._fenced(job, *arguments, **named))

    def _fenced(
        self, job: Job[P, T], *arguments: P.args, **named: P.kwargs
    ) -> Callable[[sqlite3.Connection], T]:
        """The job, with a look at the epoch in its own transaction: elsewhere it proves nothing."""

        def fenced(connection: sqlite3.Connection) -> T:
            (newest,) = connection.execute("select epoch from owner").fetchone()
            if newest != self._epoch:
                raise OwnershipLost(f"epoch {self._epoch} wrote, but {newest} owns the ledger")
            return job(connection, *arguments, **named)

        return fenced

    async def _read(self, job: Job[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await self._reader.run(lambda c: job(c, *arguments, **named))

    async def _ask(self, job: Job[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await self._asked.run(lambda c: job(c, *arguments, **named))

    # --- intake ---------------------------------------------------------------------------------

    async def register(self, item: Heard, cursor: Cursor | None = None) -> Registered:
        return await self._write(intake.register, item, cursor, self._clock.now())

    async def revise(self, item: Edited) -> Registered:
        return await self._write(changes.revise, item, self._clock.now())

    async def withdraw(self, item: Deleted) -> Registered:
        return await self._write(changes.withdraw, item, self._clock.now())

    async def identify(self, connector: str, identity: Identity) -> tuple[Registered, ...]:
        return await self._write(intake.identify, connector, identity, self._clock.now())

    async def unidentified(self, connector: str) -> tuple[str, ...]:
        return await self._read(intake.unidentified, connector)

    async def cursor(self, connector: str, folder: str) -> Cursor | None:
        return await self._read(intake.cursor, connector, folder)

    async def set_cursor(self, cursor: Cursor) -> None:
        await self._write(intake.set_cursor, cursor)

    async def find_conversation(
        self, connector: str, names: Sequence[str]
    ) -> KnownConversation | None:
        return await self._read(intake.find_conversation, connector, names)

    async def knows(self, connector: str, outside_ids: Sequence[str]) -> frozenset[str]:
        return await self._read(intake.knows, connector, outside_ids)

    async def active_conversations(
        self, connector: str, since: float, limit: int
    ) -> tuple[ConversationId, ...]:
        return await self._read(intake.active_conversations, connector, since, limit)

    async def message(self, message: MessageId) -> StoredMessage | None:
        return await self._read(intake.message, message)

    # --- dispatch and turns ---------------------------------------------------------------------

    async def ready(self, conversation: ConversationId) -> ReadyConversation | None:
        return await self._read(turns.ready, conversation)

    async def ready_among(
        self, conversations: Sequence[ConversationId]
    ) -> tuple[ReadyConversation, ...]:
        return await self._read(turns.ready_among, conversations)

    async def all_ready(self) -> tuple[ReadyConversation, ...]:
        return await self._read(turns.all_ready)

    async def workspace(self, conversation: ConversationId) -> Workspace | None:
        return await self._read(turns.workspace, conversation, self._data_dir)

    async def claim(
        self, conversation: ConversationId, spare: Workspace | None, limits: ClaimLimits
    ) -> Turn | None:
        """A caller that is cancelled meanwhile leaves no running turn behind that nobody runs."""
        claiming = self._writer.submit(
            self._fenced(
                turns.claim,
                conversation,
                spare,
                limits,
                epoch=self._epoch,
                now=self._clock.now(),
                data_dir=self._data_dir,
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(self._put_back_claim)
            raise

    def _put_back_claim(self, claiming: asyncio.Future[Turn | None]) -> None:
        if claiming.cancelled() or claiming.exception() is not None:
            return
        turn = claiming.result()
        if turn is not None:
            with contextlib.suppress(LedgerError):  # closed: the next start finds it interrupted
                self._writer.submit(self._fenced(turns.put_back_claim, turn.id))

    async def said(self, conversation: ConversationId, before: TurnId) -> tuple[str, ...]:
        return await self._read(turns.said, conversation, before)

    async def begin_attempt(self, turn: TurnId, attempt: int, process: ProcessRef) -> None:
        await self._own(turns.begin_attempt, turn, attempt, process, self._clock.now())

    async def note_tools(self, turn: TurnId, used: Sequence[tuple[float, str]]) -> None:
        await self._own(turns.note_tools, turn, used, self._clock.now())

    async def stage(self, turn: TurnId, attempt: int, tool_use_id: str, effect: NewEffect) -> None:
        await self._own(outbox.stage, turn, attempt, tool_use_id, effect, self._clock.now())

    async def end_turn(self, turn: TurnId, ending: Ending) -> bool:
        return await self._own(turns.end_turn, turn, ending, self._clock.now())

    async def requeue(
        self,
        turn: TurnId,
        *,
        not_before: float,
        resend: bool,
        failed: bool = False,
        told: bool = False,
        tools_done: frozenset[str] | None = None,
        effects: tuple[NewEffect, ...] = (),
        reason: str = "",
    ) -> None:
        await self._own(
            turns.requeue,
            turn,
            not_before=not_before,
            resend=resend,
            failed=failed,
            told=told,
            tools_done=tools_done,
            effects=effects,
            reason=reason,
            now=self._clock.now(),
        )

    async def call_off(self, conversation: ConversationId) -> tuple[StoredMessage, ...]:
        return await self._own(turns.call_off, conversation, COMMAND_LINE, self._clock.now())

    async def release(self, reason: str) -> tuple[ConversationId, ...]:
        return await self._own(turns.release, reason, self._clock.now())

    async def turn(self, turn: TurnId) -> Turn | None:
        return await self._read(turns.load, turn, self._data_dir)

    async def interrupted(self) -> tuple[Turn, ...]:
        return await self._own(
            turns.interrupted, epoch=self._epoch, now=self._clock.now(), data_dir=self._data_dir
        )

    # --- approvals ------------------------------------------------------------------------------

    async def request(self, asked: Approval, effects: Sequence[NewEffect]) -> Approval | None:
        return await self._own(approvals.request, asked, effects, self._clock.now())

    async def take(self, approval: ApprovalId, turn: TurnId) -> Approval | None:
        return await self._own(approvals.take, approval, turn, self._clock.now())

    async def decide(
        self, approval: ApprovalId, verdict: Verdict, effects: Sequence[NewEffect]
    ) -> Approval | None:
        return await self._own(approvals.decide, approval, verdict, effects, self._clock.now())

    async def offer(self, offered: Approval, effects: Sequence[NewEffect]) -> None:
        await self._own(approvals.offer, offered, effects, self._clock.now())

    async def approval(self, approval: ApprovalId) -> Approval | None:
        return await self._read(approvals.find, approval)

    async def approvals(self) -> tuple[JsonObject, ...]:
        return await self._ask(approvals.pending)

    # --- outbox ---------------------------------------------------------------------------------

    async def add_effects(self, effects: Sequence[NewEffect]) -> None:
        await self._own(outbox.insert, effects, state="pending", now=self._clock.now())

    async def due_effects(self, connector: str, now: float, limit: int) -> tuple[Effect, ...]:
        return await self._read(outbox.due, connector, now, limit)

    async def next_due(self, connector: str) -> float | None:
        return await self._read(outbox.next_due, connector)

    async def left_sending(self, connector: str) -> tuple[Effect, ...]:
        return await self._read(outbox.left_sending, connector)

    async def mark_sending(self, effect: EffectId) -> None:
        """Raises LedgerError where the effect is not pending: it must not leave."""
        await self._own(outbox.mark_sending, effect, self._clock.now())

    async def mark_sent(self, effect: EffectId, ref: str) -> None:
        await self._own(outbox.mark_ended, effect, "sent", self._clock.now(), ref=ref)

    async def mark_pending(self, effect: EffectId, not_before: float, reason: str) -> None:
        await self._own(outbox.mark_pending, effect, not_before, reason, self._clock.now())

    async def mark_unclear(self, effect: EffectId, reason: str) -> None:
        await self._own(outbox.mark_ended, effect, "unclear", self._clock.now(), reason=reason)

    async def mark_dead(self, effect: EffectId, reason: str) -> None:
        await self._own(outbox.mark_ended, effect, "dead", self._clock.now(), reason=reason)

    async def sent_as(self, effect: EffectId) -> str | None:
        return await self._read(outbox.sent_as, effect)

    async def count_sent(
        self,
        connector: str,
        kind: EffectKind,
        since: float,
        *,
        conversation: ConversationId | None = None,
        sender: str | None = None,
    ) -> int:
        return await self._read(outbox.count_sent, connector, kind, since, conversation, sender)

    # --- costs ----------------------------------------------------------------------------------

    async def book(self, call: ModelCall) -> None:
        await self._write(costs.book, call, self._clock.now())

    async def spent(self, budgets: Sequence[Budget], since: float) -> tuple[float, ...]:
        return await self._read(costs.spent, budgets, since)

    async def raise_budget(self, more: Raise) -> None:
        await self._own(costs.raise_budget, more, self._clock.now())

    async def raises(self) -> tuple[Raise, ...]:
        return await self._read(costs.raises, self._clock.now())

    # --- audit ----------------------------------------------------------------------------------

    async def audit(self, entry: Audited) -> None:
        await self._own(audit.append_late, entry, self._clock.now())

    async def audit_head(self) -> AuditHead | None:
        return await self._ask(audit.head)

    async def audit_holds(self, anchor: AuditHead) -> bool:
        return await self._ask(audit.holds, anchor)

    # --- what people ask ------------------------------------------------------------------------

    async def probe(self) -> None:
        """Fails too where another commit failed since the last probe: on a full disk one this
        small still finds room in the write-ahead log (measured), while messages are refused.
        """
        failed, self._writer.failed = self._writer.failed, None
        await self._own(costs.probe, self._clock.now())
        if failed is not None:
            raise LedgerError(f"a commit failed: {failed}")

    async def counts(self) -> Counts:
        return await self._read(costs.counts, self._clock.now())

    async def trace(self, any_id: str) -> JsonObject | None:
        return await self._ask(stories.trace, any_id)

    async def dead(self) -> tuple[JsonObject, ...]:
        return await self._ask(letters.dead)

    async def dead_retry(self, any_id: str) -> ConversationId | None:
        return await self._own(letters.retry, any_id, epoch=self._epoch, now=self._clock.now())

    async def dead_discard(self, any_id: str) -> bool:
        return await self._own(letters.discard, any_id, self._clock.now())

    async def conversations(self, limit: int) -> tuple[JsonObject, ...]:
        return await self._ask(stories.conversations, limit)

    async def conversation(self, conversation: ConversationId) -> JsonObject | None:
        return await self._ask(stories.conversation, conversation)

    # --- upkeep, and the end --------------------------------------------------------------------

    async def move_waiting(self, seconds: float) -> None:
        await self._own(upkeep.move_waiting, seconds)

    async def erase(self, who: str) -> tuple[Workspace, ...]:
        workspaces = await self._own(upkeep.erase, who, self._data_dir, self._clock.now())
        await self._drop_raw()
        await self._writer.empty_log()
        return workspaces

    async def retain(
        self, *, records_before: float, workspaces_before: float, keys_before: float
    ) -> tuple[Workspace, ...]:
        unaddressed_before = self._clock.now() - intake.OVERTAKEN_SECONDS
        await self._own(intake.forget_unaddressed, unaddressed_before)
        await self._own(approvals.expire, workspaces_before)
        gone: list[Workspace] = []
        while some := await self._own(upkeep.drop_workspaces, workspaces_before, self._data_dir):
            gone += some
        for drop, before in (
            (upkeep.drop_turns, records_before),
            (upkeep.drop_loose_ends, records_before),
            (upkeep.fold_costs, records_before),
            (upkeep.drop_keys, keys_before),
        ):
            while await self._own(drop, before):
                continue
        while await self._own(upkeep.drop_names):
            continue
        while await self._own(audit.cut, records_before, self._clock.now()):
            continue
        await self._drop_raw()
        return tuple(gone)

    async def _drop_raw(self) -> None:
        while await self._own(upkeep.drop_raw, self._data_dir):
            continue

    async def adopted(self) -> frozenset[str]:
        return await self._ask(upkeep.adopted)

    async def backup(self, path: Path) -> None:
        await asyncio.to_thread(upkeep.backup, self._path, path)

    async def close(self) -> None:
        """Write what is queued and let the data directory go. Safe to call twice."""
        await self._writer.close()
        await self._reader.close()
        await self._asked.close()
        if self._lock is not None:
            self._lock.release()
