"""What goes: by age (retention), by a person's wish (erase); and the copy that stays (backup).

Keys against duplicates outlive what they were the keys of: state `stripped`.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from daemon.errors import LedgerError
from daemon.ledger import audit, rows
from daemon.ledger.reader import connect_for_reading
from daemon.model import COMMAND_LINE, Audited, Workspace

CHUNK = 300  # rows in one transaction: intake goes on between two

_ACTIVE = "(state = 'queued' or state = 'running')"
_STRIP = (
    "state = 'stripped', conversation = null, turn = null, priority = null, sender = null, "
    "sender_name = null, sender_trust = null, sent_at = null, reason = '', target = null, "
    "subject = null, body = null, attachments = null, names = null, raw_path = null, raw = null"
)


# --- a clock that jumped --------------------------------------------------------------------------


def move_waiting(connection: sqlite3.Connection, seconds: float) -> None:
    """Of what is open only: what has ended keeps the times of its day."""
    connection.execute(
        "update inbox set registered_at = registered_at + ?1 "
        "where (state = 'waiting' or state = 'unidentified') "
        f"or turn in (select id from turn where {_ACTIVE})",
        (seconds,),
    )
    connection.execute(
        "update turn set claimed_at = claimed_at + ?1, "
        f"not_before = iif(not_before > 0, not_before + ?1, 0) where {_ACTIVE}",
        (seconds,),
    )
    connection.execute(
        "update outbox set created_at = created_at + ?1, started_at = started_at + ?1, "
        "not_before = iif(not_before > 0, not_before + ?1, 0) "
        "where state = 'staged' or state = 'pending' or state = 'sending'",
        (seconds,),
    )
    connection.execute(
        "update approval set asked_at = asked_at + ? where state = 'pending' or state = 'approved'",
        (seconds,),
    )


# --- retention: each step does a chunk, and says how many rows it took ----------------------------


def drop_workspaces(
    connection: sqlite3.Connection, before: float, data_dir: Path
) -> tuple[Workspace, ...]:
    """Workspaces of conversations that have been still since `before` and wait for nothing."""
    found = connection.execute(
        "select id from conversation c where last_at < ? and workspace is not null "
        f"and not exists (select 1 from turn where conversation = c.id and {_ACTIVE}) "
        "and not exists (select 1 from inbox where conversation = c.id "
        "and (state = 'waiting' or state = 'unidentified')) limit ?",
        (before, CHUNK),
    ).fetchall()
    dropped = [drop_workspace(connection, row["id"], data_dir) for row in found]
    return tuple(workspace for workspace in dropped if workspace is not None)


def drop_workspace(
    connection: sqlite3.Connection, conversation: str, data_dir: Path
) -> Workspace | None:
    row = connection.execute(
        "select w.id as workspace, w.root, w.session from conversation c "
        "join workspace w on w.id = c.workspace where c.id = ?",
        (conversation,),
    ).fetchone()
    if row is None:
        return None
    connection.execute("update conversation set workspace = null where id = ?", (conversation,))
    return rows.workspace(row, data_dir)


def drop_turns(connection: sqlite3.Connection, before: float) -> int:
    """Turns that ended before, with all that is theirs; their messages keep their keys."""
    found = connection.execute(
        "select id from turn where ended_at < ? "
        "and not exists (select 1 from outbox where turn = turn.id "
        "and state in ('staged', 'pending', 'sending')) limit ?",
        (before, CHUNK),
    ).fetchall()
    for row in found:
        remove_turn(connection, row["id"])
    return len(found)


def remove_turn(connection: sqlite3.Connection, turn: str) -> None:
    connection.execute(
        "delete from event where subject = ? or subject in (select id from outbox where turn = ?)",
        (turn, turn),
    )
    connection.execute("delete from outbox where turn = ?", (turn,))
    connection.execute("delete from approval where turn = ?", (turn,))
    connection.execute(f"update inbox set {_STRIP} where turn = ?", (turn,))
    connection.execute("delete from turn where id = ?", (turn,))


def drop_loose_ends(connection: sqlite3.Connection, before: float) -> int:
    """Effects without a turn, what was heard and never worked on, costs, events, empty
    conversations, and the records of workspaces that are gone.
    """
    changed = 0
    for statement in (
        "delete from outbox where seq in (select seq from outbox where ended_at < ? "
        "and turn is null limit ?)",
        f"update inbox set {_STRIP} where id in (select id from inbox where registered_at < ? "
        "and state in ('left_out', 'unreadable') limit ?)",
        "delete from cost where id in (select id from cost where started_at < ? and not exists "
        "(select 1 from conversation c where c.id = cost.conversation) limit ?)",
        "delete from budget_raise where id in "
        "(select id from budget_raise where until < ? limit ?)",
        "delete from event where id in (select id from event where at < ? "
        "and not exists (select 1 from turn where turn.id = subject) "
        "and not exists (select 1 from outbox where outbox.id = subject) limit ?)",
        "delete from conversation where id in (select id from conversation c where last_at < ? "
        "and workspace is null and not exists (select 1 from turn where conversation = c.id) "
        "and not exists (select 1 from inbox where conversation = c.id) "
        "and not exists (select 1 from outbox where conversation = c.id) limit ?)",
        "delete from workspace where id in (select id from workspace w where adopted_at < ? "
        "and not exists (select 1 from conversation c where c.workspace = w.id) "
        "and not exists (select 1 from turn t where t.workspace = w.id) limit ?)",
    ):
        changed += connection.execute(statement, (before, CHUNK)).rowcount
    return changed


def fold_costs(connection: sqlite3.Connection, before: float) -> int:
    """What a conversation that lives on has cost so far becomes one row, which names nobody and no
    turn: its budget is for as long as it lives.
    """
    found = connection.execute(
        "select distinct conversation from cost where started_at < ? and turn != '' limit ?",
        (before, CHUNK),
    ).fetchall()
    for row in found:
        connection.execute(
            "insert into cost (conversation, turn, booked_on, trust, model, input, output, "
            "cache_read, cache_write, cost, status, started_at, seconds) "
            "select conversation, '', '', '', '', sum(input), sum(output), sum(cache_read), "
            "sum(cache_write), total(cost), 0, max(started_at), total(seconds) from cost "
            "where conversation = ? and started_at < ?",
            (row["conversation"], before),
        )
        connection.execute(
            "delete from cost where conversation = ? and started_at < ? "
            "and id != last_insert_rowid()",
            (row["conversation"], before),
        )
    return len(found)


def drop_names(connection: sqlite3.Connection) -> int:
    """Names of conversations that are gone."""
    return connection.execute(
        "delete from name where (connector, name) in (select connector, name from name n "
        "where not exists (select 1 from conversation c where c.id = n.conversation) "
        "and not exists (select 1 from outbox o where o.conversation = n.conversation) limit ?)",
        (CHUNK,),
    ).rowcount


def drop_raw(connection: sqlite3.Connection, data_dir: Path) -> int:
    """Files of raw forms that no message refers to. In the writer's transaction, so that none is
    registered meanwhile; what fails is tried again at the next upkeep.
    """
    connection.execute(
        "delete from leftover where exists (select 1 from inbox where raw_path = leftover.path)"
    )
    found = connection.execute("select path from leftover limit ?", (CHUNK,)).fetchall()
    for row in found:
        path = data_dir / row["path"]
        if path.is_relative_to(data_dir) and ".." not in path.parts:
            path.unlink(missing_ok=True)
        connection.execute("delete from leftover where path = ?", (row["path"],))
    return len(found)


def drop_keys(connection: sqlite3.Connection, before: float) -> int:
    return connection.execute(
        "delete from inbox where id in (select id from inbox where registered_at < ? "
        "and state in ('stripped', 'ignored') limit ?)",
        (before, CHUNK),
    ).rowcount


def adopted(connection: sqlite3.Connection) -> frozenset[str]:
    found = connection.execute(
        "select workspace from conversation where workspace is not null "
        f"union select workspace from turn where {_ACTIVE}"
    )
    return frozenset(row["workspace"] for row in found)


# --- erase ---------------------------------------------------------------------------------------


def erase(
    connection: sqlite3.Connection, who: str, data_dir: Path, now: float
) -> tuple[Workspace, ...]:
    """A conversation, or everything of a sender. Costs stay, without names, and so does the audit.

    Where a person wrote in a conversation of several, their messages go, and the answers to them;
    the agent's workspace goes too, as its transcript holds what they wrote.
    """
    who = rows.plain(who)
    gone: list[Workspace | None] = []
    if connection.execute("select 1 from conversation where id = ?", (who,)).fetchone():
        gone.append(_erase_conversation(connection, who, data_dir))
    shared = connection.execute(
        "select conversation, (select count(distinct sender) from inbox o "
        "where o.conversation = i.conversation and o.sender != ?) as others from inbox i "
        "where sender = ? and conversation is not null group by conversation",
        (who, who),
    ).fetchall()
    for row in shared:
        if row["others"]:
            gone.append(_erase_person(connection, row["conversation"], who, data_dir))
        else:
            gone.append(_erase_conversation(connection, row["conversation"], data_dir))
    connection.execute("update cost set booked_on = '' where booked_on = ?", (who,))
    connection.execute(
        "update approval set decider = '', decider_name = '' where decider = ?", (who,)
    )
    audit.forget(connection, (who, *(row["conversation"] for row in shared)))
    facts = {"workspaces": len([workspace for workspace in gone if workspace is not None])}
    audit.append(connection, now, Audited("records.erased", COMMAND_LINE, facts=facts))
    connection.execute("delete from budget_raise where whose = ?", (who,))
    return tuple(workspace for workspace in gone if workspace is not None)


def _erase_conversation(
    connection: sqlite3.Connection, id_: str, data_dir: Path
) -> Workspace | None:
    workspace = drop_workspace(connection, id_, data_dir)
    wrote = connection.execute(
        "select distinct sender from inbox i where conversation = ?1 and sender is not null "
        "and not exists (select 1 from inbox where sender = i.sender and conversation != ?1)",
        (id_,),
    ).fetchall()
    audit.forget(connection, (id_, *(row["sender"] for row in wrote)))
    connection.execute(f"update inbox set {_STRIP} where conversation = ?", (id_,))
    _drop_notices(connection, "conversation", id_)
    for table in ("event", "outbox", "approval", "turn", "name"):
        connection.execute(f"delete from {table} where conversation = ?", (id_,))
    connection.execute(
        "update cost set conversation = '', booked_on = '', channel = '' where conversation = ?",
        (id_,),
    )
    connection.execute("delete from budget_raise where whose = ?", (id_,))
    connection.execute("delete from conversation where id = ?", (id_,))
    return workspace


def _erase_person(
    connection: sqlite3.Connection, id_: str, who: str, data_dir: Path
) -> Workspace | None:
    """Other people's messages of the same turns stay; a turn that was not over is claimed anew."""
    turns = connection.execute(
        "select distinct turn, t.ended_at from inbox i join turn t on t.id = i.turn "
        "where i.conversation = ? and i.sender = ?",
        (id_, who),
    ).fetchall()
    connection.execute(
        f"update inbox set {_STRIP} where conversation = ? and sender = ?",
        (id_, who),
    )
    for row in turns:
        connection.execute(
            "delete from event where subject in (select id from outbox where turn = ?)",
            (row["turn"],),
        )
        _drop_notices(connection, "turn", row["turn"])
        connection.execute("delete from outbox where turn = ?", (row["turn"],))
        connection.execute("delete from approval where turn = ?", (row["turn"],))
        if row["ended_at"] is None:
            connection.execute(
                "update inbox set state = 'waiting', turn = null where turn = ?", (row["turn"],)
            )
            connection.execute("delete from turn where id = ?", (row["turn"],))
        else:
            connection.execute("update turn set text = '' where id = ?", (row["turn"],))
    connection.execute("update conversation set opened_by = '' where opened_by = ?", (who,))
    return drop_workspace(connection, id_, data_dir)


def _drop_notices(
    connection: sqlite3.Connection, whose: Literal["conversation", "turn"], id_: str
) -> None:
    """What operators were told of the effects, approvals and turns of a conversation, or of one
    turn: it says who asked, to whom they went, of what, and what was to be done.
    """
    for table, column in (
        ("outbox", whose),
        ("approval", whose),
        ("turn", "id" if whose == "turn" else whose),
    ):
        connection.execute(
            f"delete from outbox where kind = 'notice' and exists (select 1 from {table} about "
            f"where about.{column} = ? and instr(outbox.body, about.id))",
            (id_,),
        )


# --- backup --------------------------------------------------------------------------------------


def backup(source: Path, target: Path) -> None:
    """A consistent copy, while others read and write. Blocking. Raises LedgerError."""
    if target.exists():
        raise LedgerError(f"{target} exists already")
    with closing(connect_for_reading(source)) as connection:
        try:
            connection.execute("pragma query_only = off")
            connection.execute("vacuum into ?", (str(target),))
        except sqlite3.Error as error:
            raise LedgerError(f"the backup failed: {error}") from error
    target.chmod(0o600)
    for path in (target, target.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
