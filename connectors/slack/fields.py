"""Fields of a message event, each read with suspicion: a payload may hold any JSON at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from daemon.model import Attachment

MAX_ATTACHMENTS = 50
ID = re.compile(r"[A-Z0-9]{2,40}")
TS = re.compile(r"\d{1,12}\.\d{1,9}")


class MalformedError(Exception):
    """A field of a message event is missing or is none of its kind."""


def mentions(event: Mapping[str, Any], text: str, user: str) -> bool:
    """Decided by what the message says, not by which of its two events came (reference: 2.6)."""
    if f"<@{user}>" in text or f"<@{user}|" in text:
        return True
    blocks = event.get("blocks")
    return not text and isinstance(blocks, list) and _names_user(blocks, user, depth=6)


def _names_user(value: object, user: str, depth: int) -> bool:
    """Whether rich text blocks hold a mention of the user."""
    if depth == 0:
        return False
    if isinstance(value, list):
        return any(_names_user(item, user, depth) for item in value[:200])
    if not isinstance(value, Mapping):
        return False
    if value.get("type") == "user" and value.get("user_id") == user:
        return True
    return _names_user(value.get("elements"), user, depth - 1)


def addressed(event: Mapping[str, Any], user: str) -> bool:
    direct = is_direct(event, field(event, "channel", ID))
    return direct or mentions(event, sound(event.get("text")), user)


def is_direct(event: Mapping[str, Any], channel: str) -> bool:
    return event.get("channel_type") == "im" or channel.startswith("D")


def place_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What only the outer event says of the message in it."""
    outer = {"type": "message", "channel": event.get("channel")}
    kind = event.get("channel_type")
    return outer | ({"channel_type": kind} if kind else {})


def mapping(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}


def edited_ts(event: Mapping[str, Any]) -> str | None:
    """When its author last changed it, as a ts; None: never."""
    ts = mapping(event, "edited").get("ts")
    return ts if isinstance(ts, str) and TS.fullmatch(ts) else None


def attachments(files: object) -> tuple[Attachment, ...]:
    found = []
    for file in files[:MAX_ATTACHMENTS] if isinstance(files, list) else []:
        if isinstance(file, Mapping):
            name = sound(file.get("name") or file.get("title"))[:255] or "file"
            size = file.get("size")
            found.append(
                Attachment(
                    name=name,
                    media_type=sound(file.get("mimetype"))[:100] or "application/octet-stream",
                    size=size if isinstance(size, int) and 0 <= size < 2**53 else 0,
                )
            )
    return tuple(found)


def alternate_id(event: Mapping[str, Any], team: str, channel: str, user: str) -> str | None:
    """One gesture may arrive as two events of different ts and one client_msg_id (reported)."""
    client = event.get("client_msg_id")
    if not isinstance(client, str) or not client:
        return None
    return f"{team}:{channel}:{user}:{sound(client)[:100]}"


def field(event: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise MalformedError(f"its {name} is missing or malformed")
    return value


def sound(value: object) -> str:
    """A string that any ledger can hold: no lone surrogates (JSON can carry them), no NUL."""
    if not isinstance(value, str):
        return ""
    whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "")
