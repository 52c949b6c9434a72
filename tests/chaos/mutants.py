"""Daemons with one rule broken, which the checker must catch: the proof that it can fail.

Each replaces one function in the test-only build (build.py), and says which of the checker's words
it has to earn.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from slack_bolt.response import BoltResponse

from connectors.imap.connector import ImapConnector
from connectors.slack.backfill import BackFill
from connectors.slack.connector import SlackConnector
from daemon import recovery
from daemon.agents.transcript import _Behind
from daemon.app import Daemon
from daemon.delivery import Delivery
from daemon.endings import Endings
from daemon.intake import LedgerIntake
from daemon.ledger import intake, outbox, turns
from daemon.ledger.sqlite import SqliteLedger
from daemon.model import (
    ConversationId,
    Cursor,
    Effect,
    Inbound,
    Profile,
    ReadyConversation,
    Registered,
    Sent,
    Sighting,
    Turn,
    TurnId,
)
from daemon.pool import Place, Pool, Seat
from daemon.ports import ClaimLimits, Ending, Intake, PromptFate
from tests.chaos.plan import Aim

GAP_SECONDS = 0.2  # how long the broken daemon is open to a kill


@dataclass(frozen=True, slots=True)
class Mutant:
    """`earns`: at least one of these must be found. The others say what lays it open: `aims` are
    the ends of its lives, or else the `point` at which each of them ends; the others as in Size,
    `kills` and `life` included, where they are given.
    """

    breaks: str
    apply: Callable[[], None]
    earns: frozenset[str]
    aims: tuple[Aim, ...] = ()
    point: str = ""
    kills: int = 0
    life: float = 0.0
    at_once: int = 7
    mail: int = 0
    tools: float = 0.08
    lasting: float = 0.3
    away: float = 0.0


def acknowledge_first() -> None:
    """Without the back-fill, which brings back what was acknowledged and lost."""
    persist = SlackConnector._persist
    kept: set[asyncio.Task[Any]] = set()

    async def late(self: SlackConnector, body: dict[str, Any]) -> BoltResponse:
        async def register() -> None:
            await asyncio.sleep(GAP_SECONDS)
            await persist(self, body)

        kept.add(asyncio.create_task(register()))
        return BoltResponse(status=200, body="")

    async def no_backfill(self: BackFill, intake: Intake) -> None:
        await asyncio.Event().wait()

    SlackConnector._persist = late  # type: ignore[method-assign]
    BackFill.run = no_backfill  # type: ignore[method-assign]


def send_again_unseen() -> None:
    async def again(self: Delivery, effect: Effect) -> None:
        await self._ledger.mark_pending(effect.id, self._clock.now(), "it may be missing")

    Delivery._look_up = again  # type: ignore[method-assign]


def put_rows_back() -> None:
    def requeue(connection: sqlite3.Connection, *, epoch: int, **_: Any) -> tuple[Turn, ...]:
        running = "select id from turn where state = 'running'"
        connection.execute(
            f"update inbox set state = 'waiting', turn = null where turn in ({running})"  # noqa: S608
        )
        connection.execute("update turn set state = 'lost' where state = 'running'")
        return ()

    turns.interrupted = requeue


def forget_keys() -> None:
    insert = intake._insert

    def anew(connection: sqlite3.Connection, row: dict[str, Any]) -> bool:
        key = f"{row['outside_id']}#{uuid.uuid4().hex}"
        return insert(connection, row | {"outside_id": key, "alternate_id": None})

    intake._insert = anew


def write_the_answer_apart() -> None:
    end_turn = SqliteLedger.end_turn

    async def apart(self: SqliteLedger, turn: TurnId, ending: Ending) -> bool:
        ended = await end_turn(self, turn, replace(ending, effects=()))
        await asyncio.sleep(2 * GAP_SECONDS)
        await self.add_effects(ending.effects)
        return ended

    SqliteLedger.end_turn = apart  # type: ignore[method-assign]


def take_the_newest_first() -> None:
    def newest(connection: sqlite3.Connection, id_: str, limits: ClaimLimits) -> list[int]:
        row = connection.execute(
            "select max(id) from inbox where conversation = ? and state = 'waiting'", (id_,)
        ).fetchone()
        return [row[0]] if row[0] is not None else []

    turns._longest_run = newest


def move_the_cursor_first() -> None:
    accept = LedgerIntake.accept

    async def late(self: LedgerIntake, item: Inbound, cursor: Cursor | None = None) -> Registered:
        if cursor is not None:
            await self._ledger.set_cursor(cursor)
        return await accept(self, item)

    LedgerIntake.accept = late  # type: ignore[method-assign]


def believe_that_no_mail_arrived() -> None:
    async def absent(self: ImapConnector, effect: Effect) -> Sent | Sighting:
        return Sighting.ABSENT

    ImapConnector.find = absent  # type: ignore[method-assign]


def mark_before_sending() -> None:
    async def marked(self: Delivery, effect: Effect) -> None:
        await self._ledger.mark_sent(effect.id, "it will be")

        async def sending() -> None:
            return None

        await self._connector.deliver(effect, sending)

    Delivery._carry_out = marked  # type: ignore[method-assign]


def stop_without_a_drain() -> None:
    async def at_once(self: Daemon, *, seconds: float) -> None:
        await self.supervisor.stop(*self.services())

    Daemon.stop = at_once  # type: ignore[method-assign]


def let_turns_overlap() -> None:
    """Neither the ledger nor the pool knows of a turn that runs; each gets a process of its own."""
    unaware, claim = _unaware(turns.ready), _unaware(turns.claim)
    offer = Pool.offer

    def beside(
        connection: sqlite3.Connection, id_: ConversationId, *arguments: Any, **named: Any
    ) -> Turn | None:
        connection.execute("drop index if exists turn_one")
        connection.execute(
            "update conversation set workspace = null where id = ?1 and exists "
            "(select 1 from turn where conversation = ?1 and state = 'running')",
            (id_,),
        )
        turn: Turn | None = claim(connection, id_, *arguments, **named)
        return turn

    def another_seat(self: Pool, ready: ReadyConversation) -> Seat | None:
        slot = self._slots.get(ready.id)
        if slot is not None and slot.place is Place.BUSY and self.open:
            unbounded = self._add_slot(ready.id)
            return Seat(ready.id, unbounded, self._agents.new_workspace(), created=True)
        return offer(self, ready)

    turns.ready, turns.claim = unaware, beside
    Pool.offer = another_seat  # type: ignore[method-assign]


def _unaware(function: Any) -> Any:
    """The same function, to which only queued turns are active."""
    named = {**vars(turns), "_ACTIVE": "state = 'queued'"}
    copy = FunctionType(function.__code__, named, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def keep_the_uuid_after_a_tool() -> None:
    next_step = recovery.next_step

    def same(fate: PromptFate, profile: Profile) -> recovery.Step:
        worked = fate.tools_done or fate.tools_open
        return recovery.Resend() if worked and fate.answer is None else next_step(fate, profile)

    recovery.next_step = same


def keep_the_uuid_after_an_api_error() -> None:
    put_back, next_step = Endings._put_back, recovery.next_step

    async def unsent(self: Endings, turn: Turn, *arguments: Any, **named: Any) -> None:
        await put_back(self, replace(turn, resend=True), *arguments, **{**named, "sent": False})

    def same(fate: PromptFate, profile: Profile) -> recovery.Step:
        bare = not (fate.tools_done or fate.tools_open)
        return recovery.Resend() if bare and fate.answer is None else next_step(fate, profile)

    Endings._put_back = unsent  # type: ignore[method-assign]
    recovery.next_step = same


def harvest_the_error() -> None:
    take = _Behind._take_assistant

    def believing(self: _Behind, entry: dict[str, Any], message: dict[str, Any]) -> None:
        take(self, {**entry, "isApiErrorMessage": False}, {**message, "model": "a model"})

    _Behind._take_assistant = believing  # type: ignore[method-assign]


def leave_the_harvest() -> None:
    next_step = recovery.next_step

    def anew(fate: PromptFate, profile: Profile) -> recovery.Step:
        step = next_step(fate, profile)
        answered = isinstance(step, recovery.Harvest)
        return recovery.NewAttempt(fate.tools_done) if answered else step

    recovery.next_step = anew


def drop_what_was_staged() -> None:
    carry_over = outbox.carry_over

    def none(
        connection: sqlite3.Connection, turn: TurnId, attempt: int, tools_done: frozenset[str]
    ) -> None:
        carry_over(connection, turn, attempt, frozenset())

    outbox.carry_over = none


MUTANTS = {
    "ack-first": Mutant(
        "Slack is acknowledged before the row is written",
        acknowledge_first,
        frozenset({"lost"}),
        ("acked",),
    ),
    "blind-resend": Mutant(
        "a post that may have arrived is sent again unseen",
        send_again_unseen,
        frozenset({"twice"}),
        ("after post",),
    ),
    "requeue": Mutant(
        "the messages of a turn that was cut off go back among those that wait",
        put_rows_back,
        frozenset({"merged"}),
        ("asked", "claimed"),
    ),
    "no-keys": Mutant(
        "an event that comes again is taken for a new one",
        forget_keys,
        frozenset({"twice"}),
        ("any",),
    ),
    "outbox-apart": Mutant(
        "a turn's end and its answer are two transactions",
        write_the_answer_apart,
        frozenset({"lost"}),
        ("answered",),
    ),
    "newest-first": Mutant(
        "a conversation's newest message is taken first",
        take_the_newest_first,
        frozenset({"disorder"}),
        ("any",),
    ),
    "cursor-first": Mutant(
        "a mailbox's cursor moves before the mail is registered",
        move_the_cursor_first,
        frozenset({"lost"}),
        point="before commit: registered",
        mail=10_000,  # nothing but mail: only that has a cursor
    ),
    "mail-resend": Mutant(
        "a mail that is not found in Sent is taken for not sent",
        believe_that_no_mail_arrived,
        frozenset({"twice"}),
        ("mail taken",),
        mail=40,
    ),
    "mark-first": Mutant(
        "an effect is marked as sent before it is",
        mark_before_sending,
        frozenset({"lost"}),
        ("before post",),
    ),
    "no-drain": Mutant(
        "told to stop, it ends at once",
        stop_without_a_drain,
        frozenset({"cut short"}),
        ("stop",),
        tools=0.5,
    ),
    "no-lock": Mutant(
        "two turns of a conversation run at the same time",
        let_turns_overlap,
        frozenset({"disorder"}),
        ("any",),
        kills=3,
        life=20.0,  # people have to write while a turn runs
        at_once=2,  # else the processes are all at work for others
        tools=0.5,
        lasting=4.0,
    ),
    "same-uuid-tool": Mutant(
        "a turn that was cut off after a tool keeps its uuid",
        keep_the_uuid_after_a_tool,
        frozenset({"lost"}),
        ("tool done",),
        tools=0.4,
    ),
    "same-uuid-error": Mutant(
        "a turn that ended with an API error keeps its uuid",
        keep_the_uuid_after_an_api_error,
        frozenset({"lost"}),
        ("any",),
        away=0.2,
    ),
    "harvest-error": Mutant(
        "the CLI's words on an API error are taken for the answer",
        harvest_the_error,
        frozenset({"lost"}),
        point="model refused",
        away=0.3,
    ),
    "no-harvest": Mutant(
        "an answer that is there is asked for again",
        leave_the_harvest,
        frozenset({"asked again"}),
        point="answered",
    ),
    "drop-staged": Mutant(
        "what a tool has staged is dropped with the attempt that was cut off",
        drop_what_was_staged,
        frozenset({"unlabelled"}),
        ("tool done",),
        mail=40,
        tools=0.6,
    ),
}
