"""The named points at which a daemon can be made to die: a fuse replaces one function each.

From outside nobody hits the instant before a commit, or the one between a commit and what follows
it. So the daemon kills itself there, with the same SIGKILL: nothing of it runs any more.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from connectors.imap.connector import ImapConnector
from connectors.slack import connector as slack
from daemon.agents.live import ClaudeAgent
from daemon.delivery import Delivery
from daemon.endings import Endings
from daemon.intake import LedgerIntake
from daemon.ledger import intake, outbox, sqlite, turns
from daemon.ledger.writer import Writer
from daemon.model import Effect, EffectKind, Receipt, Sent
from daemon.ports import TextDelta, ToolUsed, TurnEnded
from daemon.worker import Worker

Burn = Callable[[], None]


class Countdown:
    """Ends this process at once when it is called after so many passes."""

    def __init__(self, passes: int) -> None:
        self._passes = passes

    def __call__(self) -> None:
        self._passes -= 1
        if self._passes < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Point:
    """`arm` puts the fuse in; at most so many `passes` go before, as not all points come often.
    `mail`: it is in the way of mails alone.
    `follows`: it is in the way of a daemon that comes after a death at that point.
    """

    when: str
    arm: Callable[[Burn], None]
    passes: int = 3
    mail: bool = False
    follows: str = ""


# --- around a function -----------------------------------------------------------------------


def before(owner: Any, name: str, burn: Burn, fits: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    def fused(*arguments: Any, **named: Any) -> Any:
        if fits(*arguments):
            burn()
        return original(*arguments, **named)

    setattr(owner, name, fused)


def after(owner: Any, name: str, burn: Burn, fits: Callable[[Any], bool] = lambda _: True) -> None:
    """When the coroutine has returned, and its caller does not know yet."""
    original = getattr(owner, name)

    async def fused(*arguments: Any, **named: Any) -> Any:
        result = await original(*arguments, **named)
        if fits(result):
            burn()
        return result

    setattr(owner, name, fused)


# --- around a commit -------------------------------------------------------------------------


class Watched:
    """The writer's connection. `jobs` are those in its open transaction; the fuse burns before or
    after the commit of the one that it is for.
    """

    def __init__(
        self, connection: sqlite3.Connection, jobs: set[str], job: str, burn: Burn, *, done: bool
    ) -> None:
        self._connection = connection
        self._jobs, self._job, self._burn, self._done = jobs, job, burn, done

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "begin immediate":
            self._jobs.clear()
        if sql != "commit" or self._job not in self._jobs:
            return self._connection.execute(sql, *values)
        if not self._done:
            self._burn()
        cursor = self._connection.execute(sql)
        if self._done:
            self._burn()
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def at_commit(owner: Any, job: str, burn: Burn, *, done: bool) -> None:
    """`job` is one of the ledger's named operations; one that finds nothing to do is none."""
    jobs: set[str] = set()
    original = getattr(owner, job)

    def noted(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        if job != "claim" or result is not None:
            jobs.add(job)
        return result

    def watched(connection: sqlite3.Connection, log: Path | None = None) -> Writer:
        proxy: Any = Watched(connection, jobs, job, burn, done=done)
        return Writer(proxy, log)

    setattr(owner, job, noted)
    vars(sqlite)["Writer"] = watched


@dataclass(frozen=True, slots=True)
class Commit:
    """The named operation of the ledger by whose commit `what` becomes true."""

    owner: Any
    job: str
    what: str
    passes: int = 3
    mail: bool = False


COMMITS = {
    "registered": Commit(intake, "register", "a message is registered"),
    "claimed": Commit(turns, "claim", "a turn is claimed"),
    "attempt": Commit(turns, "begin_attempt", "an attempt is begun"),
    "staged": Commit(outbox, "stage", "a tool's effect is staged", passes=1, mail=True),
    "ended": Commit(turns, "end_turn", "a turn is done and its answer pending"),
    "put back": Commit(turns, "requeue", "a turn is put back", passes=1),
    "sending": Commit(outbox, "mark_sending", "an effect goes to `sending`"),
    "sent": Commit(outbox, "mark_ended", "an effect is marked as sent"),
}


def _around_commits() -> dict[str, Point]:
    points: dict[str, Point] = {}
    for name, commit in COMMITS.items():
        for word, done in (("before", False), ("after", True)):
            points[f"{word} commit: {name}"] = Point(
                f"{word} the commit by which {commit.what}",
                partial(at_commit, commit.owner, commit.job, done=done),
                commit.passes,
                commit.mail,
            )
    return points


# --- around a delivery -----------------------------------------------------------------------


def _deliveries(connector: Any, kind: EffectKind, burn: Burn, *, sent: bool) -> None:
    """With `sending` committed and nothing sent, or with all of it sent and nothing marked."""
    original = connector.deliver

    async def fused(self: Any, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        async def then_burn() -> None:
            await sending()
            if effect.kind is kind and not sent:
                burn()

        receipt: Receipt = await original(self, effect, then_burn)
        if effect.kind is kind and sent and isinstance(receipt, Sent):
            burn()
        return receipt

    connector.deliver = fused


def _is_text(_worker: Worker, _turn: Any, event: object) -> bool:
    return isinstance(event, TextDelta)


def _is_tool(_worker: Worker, _turn: Any, event: object) -> bool:
    return isinstance(event, ToolUsed)


def _is_api_error(_worker: Worker, _turn: Any, end: object, *_: Any) -> bool:
    return isinstance(end, TurnEnded) and end.error == "api"


POINTS: dict[str, Point] = {
    "after accept": Point(
        "a message is registered, and its connector does not know yet",
        lambda burn: after(LedgerIntake, "accept", burn),
        passes=6,
    ),
    "before ack": Point(
        "an event is registered, and its acknowledgement is the next thing to be written",
        lambda burn: before(slack, "send_async_response", burn),
        passes=6,
    ),
    "after claim": Point(
        "a turn is claimed, and nothing of it has begun",
        lambda burn: before(Worker, "run_turn", burn),
    ),
    "prompt sent": Point("the CLI has the prompt", lambda burn: after(ClaudeAgent, "_send", burn)),
    "mid-answer": Point(
        "a piece of the answer has come", lambda burn: before(Worker, "_on_event", burn, _is_text)
    ),
    "mid-tool": Point(
        "a tool is at work", lambda burn: before(Worker, "_on_event", burn, _is_tool), passes=1
    ),
    "model refused": Point(
        "the model's API has refused a turn, and it is not put back yet",
        lambda burn: before(Worker, "_after_end", burn, _is_api_error),
        passes=1,
    ),
    "answered": Point(
        "the answer is whole, and nothing of it is written",
        lambda burn: before(Endings, "done", burn),
    ),
    **_around_commits(),
    "in sending": Point(
        "`sending` is committed, and the post has not left",
        lambda burn: _deliveries(slack.SlackConnector, EffectKind.POST, burn, sent=False),
    ),
    "in sending, mail": Point(
        "`sending` is committed, and DATA is the next thing to be written",
        lambda burn: _deliveries(ImapConnector, EffectKind.REPLY, burn, sent=False),
        passes=1,
        mail=True,
    ),
    "after send": Point(
        "Slack has taken the post, and it is not marked",
        lambda burn: _deliveries(slack.SlackConnector, EffectKind.POST, burn, sent=True),
    ),
    "after send, mail": Point(
        "the server has taken the mail, and it is not marked",
        lambda burn: _deliveries(ImapConnector, EffectKind.REPLY, burn, sent=True),
        passes=1,
        mail=True,
    ),
    "settling": Point(
        "a turn that an earlier death cut off is about to be settled",
        lambda burn: before(Endings, "by_fate", burn),
        passes=0,
        follows="mid-answer",
    ),
    "looked up": Point(
        "a look outside has shown what became of a post, and it is not marked",
        lambda burn: after(Delivery, "_find", burn),
        passes=0,
        follows="after send",
    ),
}
