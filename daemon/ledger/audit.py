"""The audit: who asked for what, what was decided and what was done, in a chain of records.

Each record carries the hash of the one before it, so that a change, a gap or another order shows.
People and conversations stand in it by an alias, whose meaning can be erased; what somebody wrote
stands in it as a salted digest. The form, and what is recorded when: docs/audit.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from daemon.clock import DAY_SECONDS
from daemon.ledger import rows
from daemon.model import AGENT, COMMAND_LINE, DAEMON, Audited, AuditFindings, AuditHead, JsonObject

GENESIS = "0" * 64  # what the first record carries in place of a hash before it
CUT = "audit.cut"
BROKEN = "audit.broken"
CHUNK = 300  # records in one transaction, as in upkeep

_PARTS = frozenset({AGENT, DAEMON, COMMAND_LINE, ""})


# --- adding ---------------------------------------------------------------------------------------


def append(connection: sqlite3.Connection, now: float, *entries: Audited) -> None:
    """Add records to the chain, in the transaction of what they tell of. Raises ValueError for
    texts of nobody: a digest without a salt could be guessed.
    """
    last = _last(connection)
    seq, before = (last.seq, last.hash) if last else (0, GENESIS)
    for entry in entries:
        seq += 1
        record = _canonical(_record(connection, entry, seq, before, now))
        before = hash_of(record)
        connection.execute(
            "insert into audit (seq, at, record, hash) values (?, ?, ?, ?)",
            (seq, now, record, before),
        )


def append_late(connection: sqlite3.Connection, entry: Audited, now: float) -> None:
    """Add what is told after it happened. Of a turn that was erased meanwhile it tells of nobody:
    no name comes back, and nothing is digested.
    """
    turn = entry.facts.get("turn")
    there = connection.execute("select 1 from turn where id = ?", (turn,)).fetchone()
    if turn is not None and there is None:
        by = entry.by if entry.by in _PARTS else DAEMON
        entry = replace(entry, by=by, conversation="", about="", texts=())
    append(connection, now, entry)


def _record(
    connection: sqlite3.Connection, entry: Audited, seq: int, before: str, now: float
) -> dict[str, Any]:
    by, conversation, key = entry.by, entry.conversation, b""
    if conversation:
        conversation, key = _alias(connection, "conversation", conversation, now)
    if by not in _PARTS:
        by, salt = _alias(connection, "person", by, now)
        key += salt
    record = {
        "seq": seq,
        "at": now,
        "before": before,
        "what": entry.what,
        "by": by,
        "conversation": conversation,
        "facts": dict(entry.facts),
    }
    if entry.about:
        record["about"], salt = _alias(connection, "subject", entry.about, now)
        key += salt
    if entry.texts:
        if not key:
            raise ValueError(f"{entry.what}: a digest needs somebody's salt")
        texts = rows.to_json(list(entry.texts)).encode("ascii")
        record["digest"] = hmac.digest(key, texts, "sha256").hex()
    return record


def _alias(connection: sqlite3.Connection, kind: str, name: str, now: float) -> tuple[str, bytes]:
    row = connection.execute(
        "insert into audit_name (name, alias, salt, last_at) values (?, ?, ?, ?) "
        "on conflict (name) do update set last_at = max(last_at, excluded.last_at) "
        "returning alias, salt",
        (rows.plain(name), f"{kind}-{secrets.token_hex(8)}", secrets.token_bytes(16), now),
    ).fetchone()
    return row["alias"], row["salt"]


def _canonical(record: JsonObject) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_of(record: str) -> str:
    return hashlib.sha256(record.encode()).hexdigest()


# --- what erasing and retention take --------------------------------------------------------------


def forget(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """From now on nobody can tell whom an alias meant, nor what was digested with its salt."""
    connection.executemany(
        "delete from audit_name where name = ?", [(rows.plain(name),) for name in names]
    )


def cut(connection: sqlite3.Connection, before: float, now: float) -> int:
    """Let go of a chunk of what is older than `before`, once a day; 0 when there is no more. The
    cut is told by a record at the chain's end: the last number that goes, and its hash.
    """
    gone = connection.execute(
        "delete from audit where seq in (select seq from audit "
        "where seq <= (select through from audit_cut) order by seq limit ?)",
        (CHUNK,),
    ).rowcount
    if gone:
        return gone
    oldest = connection.execute("select at from audit order by seq limit 1").fetchone()
    if oldest is None or oldest["at"] >= before - DAY_SECONDS:  # each cut is a record of its own
        return 0
    last = connection.execute(
        "select seq, hash from audit where seq < coalesce("
        "(select seq from audit where at >= ? order by seq limit 1), 9e18) "
        "order by seq desc limit 1",
        (before,),
    ).fetchone()
    facts = {"through": last["seq"], "hash": last["hash"]}
    append(connection, now, Audited(CUT, DAEMON, facts=facts))
    connection.execute("update audit_cut set through = ?", (last["seq"],))
    connection.execute("delete from audit_name where last_at < ?", (before,))
    return 1


# --- reading and verifying ------------------------------------------------------------------------


def head(connection: sqlite3.Connection) -> AuditHead | None:
    """The newest record's number and hash."""
    return _last(connection)


def holds(connection: sqlite3.Connection, anchor: AuditHead) -> bool:
    """Whether the record that was the newest once is there as it was, or went by a cut."""
    found = _hash_at(connection, anchor.seq)
    return anchor.seq <= _cut_through(connection) if found is None else found == anchor.hash


def after(connection: sqlite3.Connection, seq: int, limit: int) -> tuple[JsonObject, ...]:
    """Records behind a number, oldest first, each with its `hash`."""
    found = connection.execute(
        "select record, hash from audit where seq > ? order by seq limit ?", (seq, limit)
    )
    return tuple({**json.loads(row["record"]), "hash": row["hash"]} for row in found)


def meanings(connection: sqlite3.Connection) -> JsonObject:
    """What the aliases mean that are not forgotten."""
    return dict(
        tuple(row) for row in connection.execute("select alias, name from audit_name order by 1")
    )


def verify(connection: sqlite3.Connection, anchors: Sequence[AuditHead]) -> AuditFindings:
    """Walk the whole chain, and look for each anchor in it. One sentence a fault."""
    connection.text_factory = _lenient
    (records,) = connection.execute("select count(*) from audit").fetchone()
    faults = [*_walk(connection), *_ends(connection)]
    faults += [_not_held(anchor) for anchor in anchors if not holds(connection, anchor)]
    return AuditFindings(records, _last(connection), tuple(faults))


def _lenient(stored: bytes) -> str:
    """What was tampered with need not be text any more."""
    return stored.decode("utf-8", "replace")


def _walk(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong between the first record and the last."""
    previous: sqlite3.Row | None = None
    for row in connection.execute("select seq, at, record, hash from audit order by seq"):
        record = _parsed(row)
        if previous is not None and row["seq"] != previous["seq"] + 1:
            yield _missing(previous["seq"] + 1, row["seq"] - 1)
        elif record is None:
            yield f"record {row['seq']} is not as it was written"
        elif previous is not None and record["before"] != previous["hash"]:
            yield f"record {row['seq']} does not follow the one before it"
        if record is not None and record["what"] == BROKEN:
            lost = f"{record['facts'].get('seq')}:{record['facts'].get('hash')}"
            yield f"record {row['seq']} tells that {lost}, which was anchored, was not there"
        previous = row


def _parsed(row: sqlite3.Row) -> dict[str, Any] | None:
    """A record, or None where it, its hash and its row do not agree."""
    try:
        record: dict[str, Any] = json.loads(row["record"])
        own = (record["seq"], record["at"]) == (row["seq"], row["at"])
        whole = isinstance(record["before"], str) and isinstance(record["facts"], dict)
    except (ValueError, TypeError, KeyError):
        return None
    return record if own and whole and hash_of(row["record"]) == row["hash"] else None


def _ends(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with where the chain begins and ends."""
    first = connection.execute("select * from audit order by seq limit 1").fetchone()
    (given,) = connection.execute(
        "select coalesce((select seq from sqlite_sequence where name = 'audit'), 0)"
    ).fetchone()
    last = _last(connection)
    if given > (last.seq if last else 0):
        yield _missing(last.seq + 1 if last else 1, given) + ": the end is cut off"
    if first is None:
        return
    told = _cut_told(connection)
    through, hash_ = (told.seq, told.hash) if told else (0, GENESIS)
    if first["seq"] > through + 1:
        yield _missing(through + 1, first["seq"] - 1) + ", untold by any cut"
    elif first["seq"] == through + 1:
        record = _parsed(first)
        if record is not None and record["before"] != hash_:
            yield f"record {first['seq']} does not follow what was cut before it"
    elif told is not None and _hash_at(connection, through) != hash_:
        yield f"record {through} is not the one that the cut told of"


def _cut_told(connection: sqlite3.Connection) -> AuditHead | None:
    """The last record that a cut let go of, as the newest cut tells it."""
    row = connection.execute(
        "select record from audit where seq > (select through from audit_cut) "
        "and instr(record, ?) order by seq desc limit 1",
        (f'"what":"{CUT}"',),
    ).fetchone()
    try:
        facts = json.loads(row["record"])["facts"] if row is not None else None
        return AuditHead(int(facts["through"]), str(facts["hash"])) if facts else None
    except (ValueError, TypeError, KeyError):
        return None


def _cut_through(connection: sqlite3.Connection) -> int:
    told = _cut_told(connection)
    return told.seq if told else 0


def _hash_at(connection: sqlite3.Connection, seq: int) -> str | None:
    row = connection.execute("select hash from audit where seq = ?", (seq,)).fetchone()
    return None if row is None else str(row["hash"])


def _last(connection: sqlite3.Connection) -> AuditHead | None:
    row = connection.execute("select seq, hash from audit order by seq desc limit 1").fetchone()
    return None if row is None else AuditHead(row["seq"], row["hash"])


def _missing(first: int, last: int) -> str:
    if first == last:
        return f"record {first} is missing"
    return f"records {first} to {last} are missing"


def _not_held(anchor: AuditHead) -> str:
    return f"record {anchor.seq} is not there as it was anchored, with hash {anchor.hash}"
