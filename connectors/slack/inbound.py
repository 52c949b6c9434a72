"""What an Events API payload means: a pure function of the payload, the bot and who is known.

Shapes: docs.slack.dev/reference/events/message and app_mention. What nobody needs a row for
(our own echo, other bots, unmentioned messages outside threads) is Skipped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from connectors.slack.fields import (
    ID,
    TS,
    MalformedError,
    addressed,
    alternate_id,
    attachments,
    edited_ts,
    field,
    is_direct,
    mapping,
    mentions,
    place_of,
    sound,
)
from connectors.slack.text import readable, without_mention
from daemon.model import (
    ConversationId,
    Deleted,
    Edited,
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
OVERTAKEN_SECONDS = 600.0  # a change so soon may be heard before what it changes
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


Parsed = Message | Ignored | Stop | Unreadable | Edited | Deleted | Skipped


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
    try:
        return _event(connector, body.get("event"), bot, people, at_work)
    except MalformedError as error:
        return _unreadable(connector, body, str(error))


def _event(
    connector: str,
    event: object,
    bot: Bot,
    people: Directory,
    at_work: Callable[[str], str | None],
) -> Message | Ignored | Stop | Edited | Deleted | Skipped:
    """Raises MalformedError."""
    if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
        raise MalformedError("an event_callback without an event")
    if event["type"] not in {"message", "app_mention"}:
        return Skipped(f"event {event['type'][:40]}")
    match event.get("subtype"):
        case "message_changed":
            return _changed(connector, event, bot, people)
        case "message_deleted":
            return _deleted(connector, event, event.get("deleted_ts"), bot)
    return _message(connector, event, bot, people, at_work)


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
) -> Message | Ignored | Stop | Edited | Skipped:
    """A person's message. One that was changed meanwhile comes as it is now (app_mention does, at
    each change, and so does what is read back).
    """
    if noise := _noise(event, bot):
        return Skipped(noise)
    message = _normal(connector, event, bot, people)
    if not isinstance(message, Message):
        return message
    if edited_ts(event) is not None:
        return Edited(message, begins=True)
    channel, thread = str(message.target["channel"]), str(message.target["thread_ts"])
    opens = thread == event["ts"]
    if _STOP.fullmatch(message.text) and (is_direct(event, channel) or not opens):
        # "stop" as a new direct message means what is at work there, not a conversation of its own.
        working = at_work(channel) if opens else thread
        if working is not None:
            conversation = ConversationId(f"slack:{bot.team}:{channel}:{working}")
            return Stop(connector, message.outside_id, conversation, message.sender)
    return message


def _normal(
    connector: str, event: Mapping[str, Any], bot: Bot, people: Directory
) -> Message | Ignored | Skipped:
    channel = field(event, "channel", ID)
    ts = field(event, "ts", TS)
    thread = field(event, "thread_ts", TS) if event.get("thread_ts") else ts
    written = sound(event.get("text"))
    direct = is_direct(event, channel)
    mentioned = event["type"] == "app_mention" or mentions(event, written, bot.user)
    if not (direct or mentioned or thread != ts):
        return Skipped("not addressed")

    user = field(event, "user", ID)
    outside_id = f"{bot.team}:{channel}:{ts}"
    alternate = alternate_id(event, bot.team, channel, user)
    sender, refused = _sender(event, user, bot, people)
    if refused:
        return Ignored(connector, outside_id, refused, alternate)
    return Message(
        connector=connector,
        outside_id=outside_id,
        alternate_id=alternate,
        conversation=ConversationId(f"slack:{bot.team}:{channel}:{thread}"),
        sender=sender,
        text=readable(without_mention(written, bot.user), people.name_of, {bot.user: bot.name}),
        sent_at=float(edited_ts(event) or ts),
        priority=Priority.CHAT,
        target={"channel": channel, "thread_ts": thread, "user": user},
        addressed=direct or mentioned,
        attachments=attachments(event.get("files")),
    )


# --- what authors do afterwards ------------------------------------------------------------------


def _changed(
    connector: str, event: Mapping[str, Any], bot: Bot, people: Directory
) -> Edited | Deleted | Skipped:
    """message_changed. Without `edited`, or with the same text, it is Slack's own doing: a link
    unfolded, a reply counted. A first message that was deleted leaves a tombstone to its thread.
    """
    inner, before = mapping(event, "message"), mapping(event, "previous_message")
    if inner.get("subtype") == "tombstone":
        return _deleted(connector, event, inner.get("ts"), bot)
    now = {**inner, **place_of(event)}
    if noise := _noise(now, bot):
        return Skipped(noise)
    edited = edited_ts(now)
    if edited is None or (inner.get("text"), inner.get("files")) == (
        before.get("text"),
        before.get("files"),
    ):
        return Skipped("changed by Slack itself")
    message = _normal(connector, now, bot, people)
    if not isinstance(message, Message):
        return message if isinstance(message, Skipped) else Skipped(message.reason)
    added = message.addressed and not addressed({**before, **place_of(event)}, bot.user)
    overtook = float(edited) - float(field(now, "ts", TS)) < OVERTAKEN_SECONDS
    return Edited(message, begins=added or overtook)


def _deleted(connector: str, event: Mapping[str, Any], ts: object, bot: Bot) -> Deleted | Skipped:
    """message_deleted. Only what may have been for us leaves a trace."""
    before = {**mapping(event, "previous_message"), **place_of(event)}
    if before.get("subtype") != "tombstone" and (noise := _noise(before, bot)):
        return Skipped(noise)
    if not isinstance(ts, str) or not TS.fullmatch(ts):
        return Skipped("a deletion that names no message")
    thread = before.get("thread_ts")
    replied = isinstance(thread, str) and thread != ts
    if not (replied or addressed(before, bot.user)):
        return Skipped("not addressed")
    channel = field(before, "channel", ID)
    target = {"channel": channel, "thread_ts": thread if replied else ts}
    return Deleted(connector, f"{bot.team}:{channel}:{ts}", target)


# --- who wrote, and what it holds ----------------------------------------------------------------


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
            if isinstance(team, str) and ID.fullmatch(team)
        ),
        None,
    )
    profile = event.get("user_profile")
    called = profile.get("display_name") if isinstance(profile, Mapping) else None
    known = people.judge(user, home, sound(called)[:80] or None)
    if known is None:
        return Sender(f"slack:{bot.team}:{user}", people.name_of(user) or user, None), None
    return Sender(known.sender, known.name, known.trust), known.refused


def _unreadable(connector: str, body: object, reason: str) -> Unreadable:
    """Keyed by the event's id, else by its own content: a redelivery is the same one."""
    try:
        raw = json.dumps(body, sort_keys=True, default=repr).encode()
    except (TypeError, ValueError, RecursionError):
        raw = repr(type(body)).encode()
    event_id = body.get("event_id") if isinstance(body, Mapping) else None
    named = isinstance(event_id, str) and ID.fullmatch(event_id.upper())
    key = event_id if named else hashlib.sha256(raw).hexdigest()[:32]
    return Unreadable(connector, f"ev:{key}", reason, raw[:MAX_RAW_BYTES])
