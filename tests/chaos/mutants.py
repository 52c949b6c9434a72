"""Daemons with one rule broken, which the checker must catch: the proof that it can fail.

    python -P mutants.py NAME run -c FILE     is `postroom run -c FILE`, with NAME's rule broken

Each replaces one function and says which words of the checker's it has to earn.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from slack_bolt.response import BoltResponse

from connectors.imap.connector import ImapConnector
from connectors.slack.connector import SlackConnector
from daemon.cli import main
from daemon.delivery import Delivery
from daemon.intake import LedgerIntake
from daemon.ledger import intake, turns
from daemon.ledger.sqlite import SqliteLedger
from daemon.model import Cursor, Effect, Inbound, Registered, Sent, Sighting, Turn, TurnId
from daemon.ports import ClaimLimits, Ending

GAP_SECONDS = 0.2  # how long the broken daemon is open to a kill


@dataclass(frozen=True, slots=True)
class Mutant:
    """`earns`: at least one of these must be found. `aims`: the kills that lay it open."""

    breaks: str
    apply: Callable[[], None]
    earns: frozenset[str]
    aims: tuple[str, ...]
    mail: int = 0


def acknowledge_first() -> None:
    persist = SlackConnector._persist
    kept: set[asyncio.Task[Any]] = set()

    async def late(self: SlackConnector, body: dict[str, Any]) -> BoltResponse:
        async def register() -> None:
            await asyncio.sleep(GAP_SECONDS)
            await persist(self, body)

        kept.add(asyncio.create_task(register()))
        return BoltResponse(status=200, body="")

    SlackConnector._persist = late  # type: ignore[method-assign]


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
            await asyncio.sleep(GAP_SECONDS)
        return await accept(self, item)

    LedgerIntake.accept = late  # type: ignore[method-assign]


def believe_that_no_mail_arrived() -> None:
    async def absent(self: ImapConnector, effect: Effect) -> Sent | Sighting:
        return Sighting.ABSENT

    ImapConnector.find = absent  # type: ignore[method-assign]


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
        ("delivered",),
        mail=40,
    ),
    "mail-resend": Mutant(
        "a mail that is not found in Sent is taken for not sent",
        believe_that_no_mail_arrived,
        frozenset({"twice"}),
        ("mail taken",),
        mail=40,
    ),
}


if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)].apply()
    main()
