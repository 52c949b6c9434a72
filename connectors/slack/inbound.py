"""What an Events API payload means: a pure function of the payload, the bot and who is known.

Shapes: docs.slack.dev/reference/events/message and app_mention. What nobody needs a row for
(our own echo, other bots, edits, unmentioned messages outside threads) is Skipped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from connectors.slack.text import readable, without_mention
from daemon.model import (
    Attachment,
    ConversationId,
    Identity,
    Ignored,
    Message,
    Priority,
    Sender,
    Stop,
    Unreadable,
)

MESSAGE_SUBTYPES = frozenset({None, "file_share", "thread_broadcast"})
MAX_RAW_BYTES = 256_000
MAX_ATTACHMENTS = 50
_ID = re.compile(r"[A-Z0-9]{2,40}")
_TS = re.compile(r"\d{1,12}\.\d{1,9}")
_STOP = re.compile(r"\W*stop\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bot:
    """Who we are in the workspace: auth.test's answer."""

    team: str
    user: str
    bot: str
    name: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Heard, acknowledged, and nothing of it kept."""

    reason: str


class Directory(Protocol):
    """Who is known (people.py)."""

    def judge(self, user: str, home: str | None, name: str | None) -> Identity | None:
        """Who a sender is; `home` is the team that the event names, `name` what it calls them.
        None: it has to be asked for.
        """
        ...

    def name_of(self, user: str) -> str | None: ...


Parsed = Message | Ignored | Stop | Unreadable | Skipped


class _MalformedError(Exception):
    """A field of a message event is missing or is none of its kind."""


def parse(
    connector: str,
    body: object,
    bot: Bot,
    people: Directory,
    at_work: Callable[[str], str | None] = lambda _channel: None,
) -> Parsed:
    """What a Socket Mode payload means. Never raises, whatever JSON it is given.

    `at_work` gives the root of the thread in a channel in which work is shown at the moment.
    """
    if not isinstance(body, Mapping):
        return _unreadable(connector, body, "not a JSON object")
    if body.get("type") != "event_callback":
        known = isinstance(body.get("type"), str) or "command" in body
        if known:  # buttons, shortcuts, commands, app_rate_limited
            return Skipped(f"payload {str(body.get('type', 'command'))[:40]}")
        return _unreadable(connector, body, "neither an event nor an interaction")
    event = body.get("event")
    if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
        return _unreadable(connector, body, "an event_callback without an event")
    if event["type"] not in {"message", "app_mention"}:
        return Skipped(f"event {event['type'][:40]}")
    noise = _noise(event, bot)
    if noise:
        return Skipped(noise)
    try:
        return _message(connector, event, bot, people, at_work)
    except _MalformedError as error:
        return _unreadable(connector, body, str(error))


def _noise(event: Mapping[str, Any], bot: Bot) -> str:
    """Why nothing of a message event is kept; empty: it is a person's message."""
    subtype = event.get("subtype")
    if event.get("hidden"):
        return "hidden"
    if event.get("user") == bot.user or (bot.bot and event.get("bot_id") == bot.bot):
        return "own message"
    if event.get("bot_id") or event.get("user") == "USLACKBOT":
        return "another bot"
    if not isinstance(subtype, str | None) or subtype not in MESSAGE_SUBTYPES:
        return f"subtype {str(subtype)[:40]}"
    return ""


def _message(
    connector: str,
    event: Mapping[str, Any],
    bot: Bot,
    people: Directory,
    at_work: Callable[[str], str | None],
) -> Message | Ignored | Stop | Skipped:
    channel = _field(event, "channel", _ID)
    ts = _field(event, "ts", _TS)
    thread = _field(event, "thread_ts", _TS) if event.get("thread_ts") else ts
    written = _text(event.get("text"))
    direct = event.get("channel_type") == "im" or channel.startswith("D")
    mentioned = event["type"] == "app_mention" or _mentions(event, written, bot.user)
    if not (direct or mentioned or thread != ts):
        return Skipped("not addressed")

    user = _field(event, "user", _ID)
    outside_id = f"{bot.team}:{channel}:{ts}"
    alternate_id = _alternate(event, bot.team, channel, user)
    sender, refused = _sender(event, user, bot, people)
    if refused:
        return Ignored(connector, outside_id, refused, alternate_id)
    text = readable(without_mention(written, bot.user), people.name_of, {bot.user: bot.name})
    if _STOP.fullmatch(text) and (direct or thread != ts):
        # "stop" as a new direct message means what is at work there, not a conversation of its own.
        working = at_work(channel) if thread == ts else thread
        if working is not None:
            conversation = ConversationId(f"slack:{bot.team}:{channel}:{working}")
            return Stop(connector, outside_id, conversation, sender)
    return Message(
        connector=connector,
        outside_id=outside_id,
        alternate_id=alternate_id,
        conversation=ConversationId(f"slack:{bot.team}:{channel}:{thread}"),
        sender=sender,
        text=text,
        sent_at=float(ts),
        priority=Priority.CHAT,
        target={"channel": channel, "thread_ts": thread, "user": user},
        addressed=direct or mentioned,
        attachments=_attachments(event.get("files")),
    )


def _sender(
    event: Mapping[str, Any], user: str, bot: Bot, people: Directory
) -> tuple[Sender, str | None]:
    """Who wrote, and why they are not answered, if so. People of other organisations keep the id
    of their own team: it cannot be mistaken for one of ours.
    """
    home = next(
        (
            team
            for team in (event.get("user_team"), event.get("team"))
            if isinstance(team, str) and _ID.fullmatch(team)
        ),
        None,
    )
    profile = event.get("user_profile")
    called = profile.get("display_name") if isinstance(profile, Mapping) else None
    known = people.judge(user, home, _text(called)[:80] or None)
    if known is None:
        return Sender(f"slack:{bot.team}:{user}", people.name_of(user) or user, None), None
    return Sender(known.sender, known.name, known.trust), known.refused


def _mentions(event: Mapping[str, Any], text: str, user: str) -> bool:
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


def _attachments(files: object) -> tuple[Attachment, ...]:
    found = []
    for file in files[:MAX_ATTACHMENTS] if isinstance(files, list) else []:
        if isinstance(file, Mapping):
            name = _text(file.get("name") or file.get("title"))[:255] or "file"
            size = file.get("size")
            found.append(
                Attachment(
                    name=name,
                    media_type=_text(file.get("mimetype"))[:100] or "application/octet-stream",
                    size=size if isinstance(size, int) and 0 <= size < 2**53 else 0,
                )
            )
    return tuple(found)


def _alternate(event: Mapping[str, Any], team: str, channel: str, user: str) -> str | None:
    """One gesture may arrive as two events of different ts and one client_msg_id (reported)."""
    client = event.get("client_msg_id")
    if not isinstance(client, str) or not client:
        return None
    return f"{team}:{channel}:{user}:{_text(client)[:100]}"


def _field(event: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _MalformedError(f"its {name} is missing or malformed")
    return value


def _text(value: object) -> str:
    """A string that any ledger can hold: no lone surrogates (JSON can carry them), no NUL."""
    if not isinstance(value, str):
        return ""
    sound = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return sound.replace("\x00", "")


def _unreadable(connector: str, body: object, reason: str) -> Unreadable:
    """Keyed by the event's id, else by its own content: a redelivery is the same one."""
    try:
        raw = json.dumps(body, sort_keys=True, default=repr).encode()
    except (TypeError, ValueError, RecursionError):
        raw = repr(type(body)).encode()
    event_id = body.get("event_id") if isinstance(body, Mapping) else None
    named = isinstance(event_id, str) and _ID.fullmatch(event_id.upper())
    key = event_id if named else hashlib.sha256(raw).hexdigest()[:32]
    return Unreadable(connector, f"ev:{key}", reason, raw[:MAX_RAW_BYTES])
