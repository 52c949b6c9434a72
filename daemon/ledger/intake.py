"""The inbox: what was heard, once each, and who may be heard in which conversation."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon.ledger import rows, turns
from daemon.model import (
    ConversationId,
    Cursor,
    Heard,
    Identity,
    Ignored,
    KnownConversation,
    Message,
    MessageId,
    Outcome,
    Registered,
    Stop,
    StoredMessage,
    Trust,
    Unreadable,
    new_message_id,
)

NOT_ADDRESSED = "not addressed"
OVERTAKEN_SECONDS = 600.0  # how long the text of what was not addressed waits for its mention
LOWER_TRUST = "of a lower trust label than its conversation"
STOP = "stop"

_OUTCOMES = {
    "waiting": Outcome.NEW,
    "unidentified": Outcome.UNIDENTIFIED,
    "ignored": Outcome.IGNORED,
    "left_out": Outcome.LEFT_OUT,
    "unreadable": Outcome.UNREADABLE,
}
# What a message that will not be worked on leaves behind.
_WITHOUT_TEXT = dict.fromkeys(("subject", "body", "attachments", "names", "raw_path"))
KEYS_ONLY = _WITHOUT_TEXT | dict.fromkeys(
    ("conversation", "priority", "sender", "sender_name", "sender_trust", "sent_at", "target")
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of a message: the inbox row's state, and why."""

    state: str
    reason: str = ""
    tell: bool = False
    opens: bool = False  # it is the first of its conversation


def register(
    connection: sqlite3.Connection, item: Heard, cursor: Cursor | None, now: float
) -> Registered:
    """T1: the row, or what a duplicate adds to the row that is there; and the cursor."""
    if isinstance(item, Message):
        registered = _register_message(connection, item, now)
        if item.raw is not None:
            _settle_raw(connection, item.raw)
    else:
        registered = _register_other(connection, item, now)
    if cursor is not None:
        set_cursor(connection, cursor)
    return registered


def _register_message(connection: sqlite3.Connection, item: Message, now: float) -> Registered:
    values = rows.message_values(item, now)
    trust = item.sender.trust
    verdict = _judge(
        connection, values["conversation"], values["sender"], trust, addressed=item.addressed
    )
    row = {
        "message": new_message_id(),
        "connector": item.connector,
        "outside_id": rows.plain(item.outside_id),
        "alternate_id": rows.plain_or_none(item.alternate_id),
        "addressed": int(item.addressed),
        "registered_at": now,
        **_kept(values, verdict),
    }
    if not _insert(connection, row):
        return _duplicate(connection, item, row, values, now)
    if verdict.state == "waiting":
        _enter(connection, row, now)
    if verdict.state == "ignored":
        forget_unaddressed(connection, now - OVERTAKEN_SECONDS)
        return Registered(Outcome.IGNORED, MessageId(row["message"]))
    return Registered(
        _OUTCOMES[verdict.state],
        MessageId(row["message"]),
        ConversationId(row["conversation"]),
        verdict.tell,
        _take_up(connection, values, now) if verdict.opens else (),
    )


def _take_up(
    connection: sqlite3.Connection, opening: dict[str, Any], now: float
) -> tuple[Registered, ...]:
    """What was said in a thread after the mention that opens it, and was heard before it: events
    overtake each other on the wire, the more after an outage. It goes behind what opens the thread.
    """
    overtook = connection.execute(
        "select * from inbox where conversation = ? and state = 'ignored' and reason = ? "
        "and body is not null and sent_at > ? order by sent_at, id",
        (opening["conversation"], NOT_ADDRESSED, opening["sent_at"]),
    ).fetchall()
    taken: list[Registered] = []
    for row in overtook:
        trust = Trust(row["sender_trust"]) if row["sender_trust"] else None
        verdict = _judge(connection, row["conversation"], row["sender"], trust, addressed=False)
        values = {**dict(row), **_kept({key: row[key] for key in KEYS_ONLY}, verdict)}
        connection.execute("delete from inbox where id = ?", (values.pop("id"),))
        _insert(connection, values)
        if verdict.state == "waiting":
            _enter(connection, values, now)
        conversation = ConversationId(row["conversation"])
        outcome, message = _OUTCOMES[verdict.state], MessageId(row["message"])
        taken.append(Registered(outcome, message, conversation, verdict.tell))
    return tuple(taken)


def forget_unaddressed(connection: sqlite3.Connection, before: float) -> int:
    """Let go of the texts that no mention has made ours; their keys stay."""
    sets = ", ".join(f"{column} = null" for column in KEYS_ONLY)
    return connection.execute(
        f"update inbox set {sets} where state = 'ignored' and body is not null "
        "and registered_at < ?",
        (before,),
    ).rowcount


def _settle_raw(connection: sqlite3.Connection, path: str) -> None:
    """The stored raw form of what is not kept (ignored, left out, heard before) may go."""
    connection.execute(
        "insert into leftover (path) select ?1 "
        "where not exists (select 1 from inbox where raw_path = ?1) on conflict do nothing",
        (path,),
    )


def _register_other(
    connection: sqlite3.Connection, item: Ignored | Unreadable | Stop, now: float
) -> Registered:
    row: dict[str, Any] = {
        "message": new_message_id(),
        "connector": item.connector,
        "outside_id": rows.plain(item.outside_id),
        "alternate_id": None,
        "addressed": 0,
        "registered_at": now,
        "state": "ignored",
    }
    conversation: ConversationId | None = None
    match item:
        case Ignored():
            row["alternate_id"] = rows.plain_or_none(item.alternate_id)
            row["reason"] = rows.plain(item.reason)
        case Unreadable():
            row |= {"state": "unreadable", "reason": rows.plain(item.reason), "raw": item.raw}
        case Stop():
            conversation = item.conversation
            row |= {"reason": STOP, "addressed": 1, "conversation": rows.plain(conversation)}
            row["sender"] = rows.plain(item.sender.id)
    if not _insert(connection, row):
        return _again(connection, _stored(connection, row), addressed=False)
    called_off = (
        turns.call_off(connection, conversation, row["sender"], now) if conversation else ()
    )
    outcome, message = _OUTCOMES[row["state"]], MessageId(row["message"])
    return Registered(outcome, message, conversation, called_off=called_off)


def _duplicate(
    connection: sqlite3.Connection,
    item: Message,
    row: dict[str, Any],
    values: dict[str, Any],
    now: float,
) -> Registered:
    """Heard before. A row that was not for us becomes a message when its mention comes."""
    stored = _stored(connection, row)
    unheard = stored["state"] in ("ignored", "unreadable") and not stored["addressed"]
    if not (unheard and item.addressed):
        return _again(connection, stored, addressed=item.addressed)
    verdict = _judge(connection, values["conversation"], values["sender"], item.sender.trust)
    changed = {
        **_kept(values, verdict),
        "addressed": 1,
        "deliveries": stored["deliveries"] + 1,
        "raw": None,
    }
    update(connection, stored["id"], changed)
    if verdict.state == "waiting":
        _enter(connection, {**changed, "connector": item.connector}, now)
    outcome = Outcome.MERGED if verdict.state == "waiting" else _OUTCOMES[verdict.state]
    conversation = ConversationId(values["conversation"])
    taken_up = _take_up(connection, values, now) if verdict.opens else ()
    return Registered(outcome, MessageId(stored["message"]), conversation, verdict.tell, taken_up)


def _again(connection: sqlite3.Connection, stored: sqlite3.Row, *, addressed: bool) -> Registered:
    connection.execute(
        "update inbox set deliveries = deliveries + 1, addressed = max(addressed, ?) where id = ?",
        (
            int(addressed and stored["state"] in ("waiting", "unidentified", "claimed")),
            stored["id"],
        ),
    )
    conversation = stored["conversation"]
    return Registered(
        Outcome.DUPLICATE,
        MessageId(stored["message"]),
        ConversationId(conversation) if conversation else None,
    )


def _judge(
    connection: sqlite3.Connection,
    conversation: str,
    sender: str,
    trust: Trust | None,
    *,
    addressed: bool = True,
    before: int | None = None,
) -> _Verdict:
    """The rules of DESIGN, "Trust". `before`: judge a held row as if nothing came after it.

    What follows a message whose sender is not known yet waits behind it: order and the label of
    the conversation are decided by the first.
    """
    label, held = connection.execute(
        "select (select trust from conversation where id = ?1), exists (select 1 from inbox "
        "where conversation = ?1 and state = 'unidentified' and id < ?2)",
        (conversation, before if before is not None else 2**62),
    ).fetchone()
    first = label is None and not held
    if first and not addressed:
        return _Verdict("ignored", NOT_ADDRESSED)
    if trust is None or held:
        return _Verdict("unidentified", opens=first)
    if label is not None and trust.rank < Trust(label).rank:
        told = connection.execute(
            "select 1 from inbox where conversation = ? and sender = ? and state = 'left_out'",
            (conversation, sender),
        ).fetchone()
        return _Verdict("left_out", LOWER_TRUST, tell=told is None)
    return _Verdict("waiting", opens=first)


def _kept(values: dict[str, Any], verdict: _Verdict) -> dict[str, Any]:
    dropped: dict[str, Any] = {}
    if verdict.reason == NOT_ADDRESSED:
        dropped = {"raw_path": None}  # its text waits a while: it may have overtaken its mention
    elif verdict.state == "ignored":
        dropped = KEYS_ONLY
    elif verdict.state == "left_out":
        dropped = _WITHOUT_TEXT  # its target stays: the author is told there
    return {**values, **dropped, "state": verdict.state, "reason": verdict.reason}


def _enter(connection: sqlite3.Connection, row: dict[str, Any], now: float) -> None:
    """A message that will be worked on: it opens its conversation, or is one more in it."""
    connection.execute(
        "insert into conversation "
        "(id, connector, priority, trust, opened_by, created_at, last_at) "
        "values (:conversation, :connector, :priority, :sender_trust, :sender, :now, :now) "
        "on conflict (id) do update set last_at = excluded.last_at",
        {**row, "now": now},
    )
    if row["names"] != "[]":
        add_names(connection, row["connector"], row["conversation"], row["names"])


def add_names(
    connection: sqlite3.Connection, connector: str, conversation: str, names: str
) -> None:
    """`names` is a JSON list. The first conversation to bear a name keeps it."""
    connection.execute(
        "insert into name (connector, name, conversation) "
        "select ?, value, ? from json_each(?) where true on conflict do nothing",
        (connector, conversation, names),
    )


def _insert(connection: sqlite3.Connection, row: dict[str, Any]) -> bool:
    """False: one of its two keys is there already."""
    return connection.execute(_insertion(tuple(row)), row).rowcount == 1


@functools.cache
def _insertion(columns: tuple[str, ...]) -> str:
    marks = ", ".join(f":{column}" for column in columns)
    # No target: it covers both keys. Not "or ignore", which would swallow broken rows as well.
    return f"insert into inbox ({', '.join(columns)}) values ({marks}) on conflict do nothing"


def update(connection: sqlite3.Connection, id_: int, values: dict[str, Any]) -> None:
    sets = ", ".join(f"{column} = :{column}" for column in values)
    connection.execute(
        f"update inbox set {sets} where id = :id",
        {**values, "id": id_},
    )


def find(
    connection: sqlite3.Connection, connector: str, outside_id: str, alternate_id: str | None
) -> sqlite3.Row | None:
    """What was heard under one of these keys: under its own, else under its other one."""
    found: sqlite3.Row | None = connection.execute(
        "select id, message, state, addressed, deliveries, conversation, subject, body, "
        "attachments from inbox where connector = ?1 and (outside_id = ?2 or alternate_id = ?3) "
        "order by outside_id = ?2 desc limit 1",
        (connector, rows.plain(outside_id), rows.plain_or_none(alternate_id)),
    ).fetchone()
    return found


def _stored(connection: sqlite3.Connection, row: dict[str, Any]) -> sqlite3.Row:
    """The row that bars this one."""
    found = find(connection, row["connector"], row["outside_id"], row["alternate_id"])
    assert found is not None  # noqa: S101 - a unique key just barred the insert
    return found


# --- senders whose trust was not known -----------------------------------------------------------


def identify(
    connection: sqlite3.Connection, connector: str, identity: Identity, now: float
) -> tuple[Registered, ...]:
    """A sender's held messages go on, and those of others that waited behind them, in order."""
    held = connection.execute(
        "update inbox set sender_trust = ?, sender_name = ?, reason = ? "
        "where connector = ? and sender = ? and state = 'unidentified' and sender_trust is null "
        "returning conversation",
        (
            identity.trust,
            rows.plain(identity.name),
            rows.plain(identity.refused or ""),
            connector,
            rows.plain(identity.sender),
        ),
    ).fetchall()
    results: list[Registered] = []
    for conversation in dict.fromkeys(row["conversation"] for row in held):
        results += release(connection, conversation, now)
    return tuple(results)


def release(connection: sqlite3.Connection, conversation: str, now: float) -> list[Registered]:
    results: list[Registered] = []
    held = connection.execute(
        "select * from inbox where conversation = ? and state = 'unidentified' order by id",
        (conversation,),
    ).fetchall()
    for row in held:
        if row["sender_trust"] is None:
            break
        verdict = _Verdict("ignored", row["reason"])
        if not row["reason"]:
            verdict = _judge(
                connection,
                conversation,
                row["sender"],
                Trust(row["sender_trust"]),
                addressed=bool(row["addressed"]),
                before=row["id"],
            )
        values = dict(row)
        changed = _kept({column: values[column] for column in KEYS_ONLY}, verdict)
        update(connection, row["id"], changed)
        if verdict.state == "waiting":
            _enter(connection, {**changed, "connector": row["connector"]}, now)
        results.append(
            Registered(
                _OUTCOMES[verdict.state],
                MessageId(row["message"]),
                ConversationId(conversation),
                verdict.tell,
            )
        )
    return results


def unidentified(connection: sqlite3.Connection, connector: str) -> tuple[str, ...]:
    found = connection.execute(
        "select distinct sender from inbox where connector = ? and state = 'unidentified' "
        "and sender_trust is null",
        (connector,),
    )
    return tuple(row["sender"] for row in found)


# --- cursors and look-ups ------------------------------------------------------------------------


def set_cursor(connection: sqlite3.Connection, cursor: Cursor) -> None:
    """Never backwards within one UIDVALIDITY."""
    connection.execute(
        "insert into cursor (connector, folder, uidvalidity, uid) values (?, ?, ?, ?) "
        "on conflict (connector, folder) do update set uidvalidity = excluded.uidvalidity, "
        "uid = case when uidvalidity = excluded.uidvalidity then max(uid, excluded.uid) "
        "else excluded.uid end",
        (cursor.connector, rows.plain(cursor.folder), cursor.uidvalidity, cursor.uid),
    )


def cursor(connection: sqlite3.Connection, connector: str, folder: str) -> Cursor | None:
    row = connection.execute(
        "select uidvalidity, uid from cursor where connector = ? and folder = ?",
        (connector, rows.plain(folder)),
    ).fetchone()
    return Cursor(connector, folder, row["uidvalidity"], row["uid"]) if row else None


def find_conversation(
    connection: sqlite3.Connection, connector: str, names: Sequence[str]
) -> KnownConversation | None:
    for name in names:
        row = connection.execute(
            "select c.id, c.connector, c.trust from name n join conversation c "
            "on c.id = n.conversation where n.connector = ? and n.name = ?",
            (connector, rows.plain(name)),
        ).fetchone()
        if row is not None:
            break
    else:
        return None
    senders = connection.execute(
        "select distinct sender from inbox where conversation = ? "
        "and state in ('waiting', 'claimed')",
        (row["id"],),
    )
    return KnownConversation(
        ConversationId(row["id"]),
        row["connector"],
        Trust(row["trust"]),
        frozenset(sender["sender"] for sender in senders),
    )


def knows(
    connection: sqlite3.Connection, connector: str, outside_ids: Sequence[str]
) -> frozenset[str]:
    found: set[str] = set()
    for outside_id in outside_ids:
        key = rows.plain(outside_id)
        for column in ("outside_id", "alternate_id"):
            if connection.execute(
                f"select 1 from inbox where connector = ? and {column} = ?",
                (connector, key),
            ).fetchone():
                found.add(outside_id)
                break
    return frozenset(found)


def active_conversations(
    connection: sqlite3.Connection, connector: str, since: float, limit: int
) -> tuple[ConversationId, ...]:
    found = connection.execute(
        "select id from conversation where connector = ? and last_at > ? "
        "order by last_at desc limit ?",
        (connector, since, limit),
    )
    return tuple(ConversationId(row["id"]) for row in found)


def message(connection: sqlite3.Connection, id_: MessageId) -> StoredMessage | None:
    row = connection.execute(
        f"select {rows.MESSAGE_COLUMNS} from inbox where message = ?",
        (id_,),
    ).fetchone()
    return rows.stored_message(row) if row is not None else None
