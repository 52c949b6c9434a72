"""What a Slack workspace holds: people, conversations, messages, files, streams. State only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from daemon.demo.slack.journal import Journal

Json = dict[str, Any]
PersonKind = Literal["member", "admin", "guest", "single_channel_guest", "stranger", "bot"]
ChannelKind = Literal["channel", "group", "im", "mpim"]


# What the app's manifest asks for, and a scope or two that nobody needs: workspaces differ.
BOT_SCOPES = (
    "app_mentions:read", "assistant:write", "channels:history", "channels:read", "chat:write",
    "groups:history", "groups:read", "im:history", "im:read", "im:write", "mpim:history",
    "mpim:read", "team:read", "users:read",
)  # fmt: skip


class RefusedError(Exception):
    """A Web API call is answered `{"ok": false, "error": code}`, with `more` beside it."""

    def __init__(self, code: str, **more: str) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


@dataclass(slots=True)
class Person:
    id: str
    name: str
    real_name: str
    kind: PersonKind = "member"
    team: str = "T0001"


@dataclass(slots=True)
class Channel:
    """A conversation; `messages` is by ts, in the order of posting."""

    id: str
    name: str
    kind: ChannelKind = "channel"
    members: set[str] = field(default_factory=set)
    archived: bool = False
    shared: bool = False  # with another organisation (Slack Connect)
    messages: dict[str, Json] = field(default_factory=dict)

    def thread(self, root: str) -> list[Json]:
        """The root, where it still exists, and its replies, oldest first."""
        return [m for ts, m in self.messages.items() if ts == root or m.get("thread_ts") == root]


@dataclass(slots=True)
class StoredFile:
    id: str
    name: str
    title: str
    mimetype: str
    user: str
    content: bytes | None = None  # None: the upload URL was given out and nothing has come
    shares: list[tuple[str, str]] = field(default_factory=list)  # (channel, ts)


@dataclass(slots=True)
class Stream:
    started: float  # loop-independent monotonic seconds
    size: int = 0  # UTF-8 bytes of text and chunks so far
    cards: bool = False  # has had chunks: then `size` is what counts
    open: bool = True


class Workspace:
    """One team with one installed app. Ids are short and fixed, so that tests can name them."""

    team = "T0001"
    team_name = "Postroom"
    domain = "postroom"
    app = "A0001"
    bot_user = "U0BOT"
    bot_id = "B0001"
    bot_name = "postroom"

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.stream_seconds = 300.0  # reported (python-slack-sdk #1859), not documented
        self.stream_bytes = 11_000  # reported (openclaw #143882), with task cards
        self.agent_declared = True  # the app's manifest has agent_view
        self.scopes = list(BOT_SCOPES)  # what the bot's token may do
        self.html_downloads = False  # a login page instead of any file
        self.base_url = ""  # http://127.0.0.1:PORT, set when the server listens
        self.publish: Callable[[Json, bool], str] = lambda _event, _shared: ""
        self.people: dict[str, Person] = {}
        self.channels: dict[str, Channel] = {}
        self.files: dict[str, StoredFile] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.views: list[Json] = []
        self.triggers: dict[str, float] = {}  # trigger_id: monotonic seconds of its making
        self._last_ts = 0
        self._furnish()

    def _furnish(self) -> None:
        for person in (
            Person("U0001", "ada", "Ada Operator", "admin"),
            Person("U0002", "bea", "Bea Member"),
            Person("U0003", "chidi", "Chidi Member"),
            Person("U0004", "gil", "Gil Guest", "guest"),
            Person("U0005", "sol", "Sol Onechannel", "single_channel_guest"),
            Person("U0006", "eve", "Eve Elsewhere", "stranger", "T0002"),
            Person("U0007", "otherbot", "Other Bot", "bot"),
            Person(self.bot_user, self.bot_name, "Postroom", "bot"),
        ):
            self.people[person.id] = person
        insiders = {"U0001", "U0002", "U0003", "U0004", "U0007", self.bot_user}
        for channel in (
            Channel("C0001", "general", members=insiders | {"U0005"}),
            Channel("C0002", "support", members=set(insiders)),
            Channel("C0003", "secrets", "group", members={"U0001", "U0002", self.bot_user}),
            Channel("C0004", "with-partner", members=insiders | {"U0006"}, shared=True),
            Channel("C0005", "no-bot-here", members={"U0001", "U0002"}),
            Channel("G0001", "mpdm-ada--bea", "mpim", members={"U0001", "U0002", self.bot_user}),
        ):
            self.channels[channel.id] = channel

    def next_ts(self, ago: float = 0.0) -> str:
        """A message's ts: now, or so many seconds ago; in microseconds, never twice here."""
        at = time.time_ns() // 1000 - int(ago * 10**6)
        if not ago:
            at = self._last_ts = max(self._last_ts + 1, at)
        return f"{at // 10**6}.{at % 10**6:06d}"

    def person(self, user: str) -> Person:
        """Raises RefusedError `user_not_found`."""
        try:
            return self.people[user]
        except KeyError:
            raise RefusedError("user_not_found") from None

    def channel(self, channel: str) -> Channel:
        """By id; a user's id stands for the direct messages with that user.

        Raises RefusedError `channel_not_found`.
        """
        if channel in self.people:
            return self.direct(channel)
        try:
            return self.channels[channel]
        except KeyError:
            raise RefusedError("channel_not_found") from None

    def direct(self, user: str) -> Channel:
        """The bot's direct messages with `user`: channel `D` + the user's id without its `U`."""
        self.person(user)
        key = "D" + user[1:]
        members = {user, self.bot_user}
        return self.channels.setdefault(key, Channel(key, "", "im", members=members))

    def message(self, channel: Channel, ts: str) -> Json:
        """Raises RefusedError `message_not_found`."""
        try:
            return channel.messages[ts]
        except KeyError:
            raise RefusedError("message_not_found") from None
