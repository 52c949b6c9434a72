"""What people do in the workspace, and what a test sees of it: `Said`, `Post`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from daemon.demo.slack import events, files, payloads, posting
from daemon.demo.slack.workspace import Channel, Workspace

Json = dict[str, Any]
Order = Literal["message_first", "mention_first"]
Attached = tuple[str, bytes | str, str]  # file name, content, MIME type


@dataclass(frozen=True, slots=True)
class Said:
    """What a person posted, and the ids of the events that tell the app of it."""

    user: str
    channel: str
    ts: str
    thread_ts: str | None
    text: str
    events: tuple[str, ...]

    @property
    def root(self) -> str:
        """The ts of the thread that an answer belongs in."""
        return self.thread_ts or self.ts


@dataclass(frozen=True, slots=True)
class Post:
    """A message of the bot as it stands now, after its updates and its stream."""

    channel: str
    ts: str
    thread_ts: str | None
    user: str
    text: str
    metadata: Json | None
    files: tuple[str, ...]


def posts(workspace: Workspace, channel: str | None, thread_ts: str | None) -> list[Post]:
    """The bot's messages, oldest first."""
    found = [
        Post(
            channel=place.id,
            ts=message["ts"],
            thread_ts=message.get("thread_ts"),
            user=message["user"],
            text=message["text"],
            metadata=message.get("metadata"),
            files=tuple(file["id"] for file in message.get("files", [])),
        )
        for place in workspace.channels.values()
        if channel in (None, place.id)
        for message in place.messages.values()
        if message.get("bot_id") == workspace.bot_id
        and thread_ts in (None, message.get("thread_ts"))
    ]
    return sorted(found, key=lambda post: post.ts)


def say(
    workspace: Workspace,
    user: str,
    place: Channel,
    text: str,
    thread_ts: str | None = None,
    *,
    order: Order = "message_first",
    client_msg_id: str | None = None,
    ago: float = 0.0,
    attached: Sequence[Attached] = (),
) -> Said:
    person = workspace.person(user)
    message = payloads.human_message(person, text, workspace.next_ts(ago), thread_ts)
    if client_msg_id:
        message["client_msg_id"] = client_msg_id
    if attached:
        stored = [
            files.store(workspace, name, _octets(content), mimetype, user)
            for name, content, mimetype in attached
        ]
        files.attach(workspace, place, message, stored)
    mentions = "first" if order == "mention_first" else ""
    told = posting.post(workspace, place, message, by="human", mentions=mentions)
    return Said(user, place.id, message["ts"], thread_ts, text, tuple(told))


def _octets(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def edit(workspace: Workspace, place: Channel, ts: str, text: str) -> str:
    user = workspace.message(place, ts)["user"]
    return posting.change(workspace, place, ts, by=user, text=text, blocks=payloads.rich_text(text))


def join(workspace: Workspace, user: str, place: Channel) -> tuple[str, ...]:
    """The ids of `member_joined_channel` and of the `channel_join` message."""
    place.members.add(user)
    joined = {
        "type": "member_joined_channel",
        "user": user,
        "channel": place.id,
        "channel_type": "G" if place.kind in ("group", "mpim") else "C",
        "team": workspace.team,
        "event_ts": workspace.next_ts(),
    }
    ts = workspace.next_ts()
    notice = {
        "type": "message",
        "subtype": "channel_join",
        "user": user,
        "text": f"<@{user}> has joined the channel",
        "ts": ts,
    }
    place.messages[ts] = notice
    heard = notice | {"channel": place.id, "channel_type": place.kind, "event_ts": ts}
    return workspace.publish(joined, place.shared), workspace.publish(heard, place.shared)


def open_home(workspace: Workspace, user: str, tab: str) -> str:
    home = {
        "type": "app_home_opened",
        "user": user,
        "channel": workspace.direct(user).id,
        "tab": tab,
        "event_ts": workspace.next_ts(),
    }
    return workspace.publish(home, False)


def click(workspace: Workspace, user: str, place: Channel, ts: str, action_id: str) -> Json:
    """The `block_actions` of a pressed button. Raises LookupError where there is none."""
    message = workspace.message(place, ts)
    trigger = f"{time.time_ns()}.{uuid.uuid4().hex[:12]}"
    payload = events.block_actions(
        workspace, place, message, workspace.person(user), action_id=action_id, trigger=trigger
    )
    workspace.triggers[trigger] = time.monotonic()
    return payload
