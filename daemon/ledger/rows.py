"""Rows to the model's values and back: JSON, enums and times in columns, nothing else."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.model import (
    Approval,
    ApprovalId,
    ApprovalState,
    Attachment,
    ConversationId,
    Effect,
    EffectId,
    EffectKind,
    EffectState,
    Message,
    MessageId,
    Priority,
    ProcessRef,
    Sender,
    StoredMessage,
    Trust,
    Turn,
    TurnId,
    TurnState,
    Workspace,
)

MESSAGE_COLUMNS = (
    "message, connector, outside_id, alternate_id, addressed, registered_at, conversation, "
    "priority, sender, sender_name, sender_trust, sent_at, target, subject, body, attachments, "
    "names, raw_path"
)
EFFECT_COLUMNS = (
    "id, connector, conversation, kind, target, body, state, created_at, turn, attempts, "
    "not_before, started_at"
)

_encode = json.JSONEncoder(separators=(",", ":"), default=dict).encode  # ASCII: any text survives


def to_json(value: Mapping[str, Any] | list[Any]) -> str:
    return "[]" if value == [] else _encode(value)


def plain(text: str) -> str:
    """Text that SQLite takes: half a surrogate pair, as hostile mails have them, becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def plain_or_none(text: str | None) -> str | None:
    return None if text is None else plain(text)


def finite(at: float, otherwise: float) -> float:
    return at if math.isfinite(at) else otherwise


def message_values(item: Message, now: float) -> dict[str, Any]:
    """The columns of a message that say what was heard."""
    return {
        "conversation": plain(item.conversation),
        "priority": int(item.priority),
        "sender": plain(item.sender.id),
        "sender_name": plain(item.sender.name),
        "sender_trust": item.sender.trust,
        "sent_at": finite(item.sent_at, now),
        "target": to_json(item.target),
        "subject": plain(item.subject),
        "body": plain(item.text),
        "attachments": to_json([[a.name, a.media_type, a.size] for a in item.attachments]),
        "names": to_json([plain(name) for name in item.names]),
        "raw_path": item.raw,
    }


def stored_message(row: sqlite3.Row) -> StoredMessage:
    """From MESSAGE_COLUMNS; what was not kept (a left-out message's text) is empty."""
    trust = row["sender_trust"]
    return StoredMessage(
        id=MessageId(row["message"]),
        registered_at=row["registered_at"],
        message=Message(
            connector=row["connector"],
            outside_id=row["outside_id"],
            alternate_id=row["alternate_id"],
            conversation=ConversationId(row["conversation"] or ""),
            sender=Sender(
                row["sender"] or "", row["sender_name"] or "", Trust(trust) if trust else None
            ),
            text=row["body"] or "",
            sent_at=row["sent_at"] or row["registered_at"],
            priority=Priority(row["priority"] or 0),
            target=json.loads(row["target"] or "{}"),
            addressed=bool(row["addressed"]),
            subject=row["subject"] or "",
            attachments=tuple(Attachment(*a) for a in json.loads(row["attachments"] or "[]")),
            names=tuple(json.loads(row["names"] or "[]")),
            raw=row["raw_path"],
        ),
    )


def effect(row: sqlite3.Row) -> Effect:
    """From EFFECT_COLUMNS."""
    return Effect(
        id=EffectId(row["id"]),
        connector=row["connector"],
        conversation=ConversationId(row["conversation"]),
        kind=EffectKind(row["kind"]),
        target=json.loads(row["target"]),
        body=json.loads(row["body"]),
        state=EffectState(row["state"]),
        created_at=row["created_at"],
        turn=TurnId(row["turn"]) if row["turn"] else None,
        attempts=row["attempts"],
        not_before=row["not_before"],
        started_at=row["started_at"],
    )


def approval(row: sqlite3.Row) -> Approval:
    """From all columns."""
    return Approval(
        id=ApprovalId(row["id"]),
        conversation=ConversationId(row["conversation"]),
        connector=row["connector"],
        turn=TurnId(row["turn"]),
        tool=row["tool"],
        input=row["input"],
        requesters=frozenset(people(row)),
        asked_at=row["asked_at"],
        state=ApprovalState(row["state"]),
        decider=row["decider"],
        decider_name=row["decider_name"],
    )


def people(row: sqlite3.Row) -> list[str]:
    """Who asked for an approval."""
    found: list[str] = json.loads(row["requesters"])
    return found


def workspace(row: sqlite3.Row, data_dir: Path) -> Workspace:
    """From workspace's id, root and session; an absolute root stays what it is."""
    return Workspace(row["workspace"], data_dir / row["root"], row["session"])


def stored_root(root: Path, data_dir: Path) -> str:
    """Relative to the data directory where it lies in it: a restored backup runs anywhere."""
    return str(root.relative_to(data_dir) if root.is_relative_to(data_dir) else root)


def turn(row: sqlite3.Row, messages: tuple[StoredMessage, ...], data_dir: Path) -> Turn:
    """From a turn joined with its workspace."""
    process = None
    if row["pid"] is not None:
        process = ProcessRef(row["pid"], row["pid_started"])
    return Turn(
        id=TurnId(row["id"]),
        conversation=ConversationId(row["conversation"]),
        connector=row["connector"],
        trust=Trust(row["trust"]),
        workspace=workspace(row, data_dir),
        messages=messages,
        claimed_at=row["claimed_at"],
        state=TurnState(row["state"]),
        attempt=row["attempt"],
        failures=row["failures"],
        deaths=row["deaths"],
        told=bool(row["told"]),
        resend=bool(row["resend"]),
        fresh=bool(row["fresh"]),
        process=process,
    )
