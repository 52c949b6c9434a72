"""Shapes of what Slack tells the app: events and pressed buttons, as pure functions of state."""

from __future__ import annotations

import base64
import time
import uuid
from typing import TYPE_CHECKING, Any

from daemon.demo.slack.payloads import MENTION

if TYPE_CHECKING:
    from daemon.demo.slack.workspace import Channel, Person, Workspace

Json = dict[str, Any]

# What an `event` of type message carries, by its subtype; app_mention is the fourth.
PLAIN = (
    "client_msg_id", "type", "user", "text", "ts", "team", "blocks", "thread_ts",
    "parent_user_id", "bot_id", "bot_profile", "edited",
)  # fmt: skip
FILE_SHARE = (
    "type", "subtype", "text", "blocks", "files", "upload", "display_as_bot", "user",
    "parent_user_id", "ts", "thread_ts",
)  # fmt: skip
BROADCAST = (
    "type", "subtype", "client_msg_id", "user", "text", "ts", "thread_ts", "blocks", "root",
)  # fmt: skip
MENTIONED = (
    "client_msg_id", "user", "text", "ts", "team", "blocks", "thread_ts", "bot_id", "bot_profile",
    "user_team", "source_team", "user_profile", "edited",
)  # fmt: skip
INNER = (
    "client_msg_id", "type", "subtype", "user", "team", "bot_id", "bot_profile", "edited", "text",
    "blocks", "upload", "display_as_bot", "thread_ts", "parent_user_id", "ts", "user_team",
    "source_team", "reply_count", "reply_users_count", "latest_reply", "hidden",
)  # fmt: skip


def events_of_post(
    workspace: Workspace, channel: Channel, message: Json, mentions: str
) -> list[Json]:
    """The events of one new message: `message` where the bot is a member; `app_mention` beside it.

    `mentions` is "first" to send the mention before the message. A mention in direct messages has
    no event of its own; where the bot is no member the mention is all that it hears.
    """
    events = []
    if workspace.bot_user in channel.members:
        events.append(_in_channel(channel, message, _names_of(message)))
    events += mention_of(workspace, channel, message)
    return events[::-1] if mentions == "first" else events


def mention_of(workspace: Workspace, channel: Channel, message: Json) -> list[Json]:
    """The `app_mention` of a message, if it has one. Slack sends it at each change, too, with
    `edited` (bolt-js #960).
    """
    named = workspace.bot_user in MENTION.findall(message.get("text", ""))
    if named and channel.kind != "im" and message.get("user") != workspace.bot_user:
        return [_mention(workspace, channel, message)]
    return []


def _names_of(message: Json) -> tuple[str, ...]:
    by_subtype = {"file_share": FILE_SHARE, "thread_broadcast": BROADCAST}
    return by_subtype.get(message.get("subtype", ""), PLAIN)


def _in_channel(channel: Channel, message: Json, names: tuple[str, ...]) -> Json:
    event = {name: message[name] for name in names if name in message}
    where = {"channel": channel.id, "event_ts": message["ts"], "channel_type": channel.kind}
    return event | where


def _mention(workspace: Workspace, channel: Channel, message: Json) -> Json:
    event: Json = {"type": "app_mention"}
    event |= {name: message[name] for name in MENTIONED if name in message}
    person = workspace.people.get(message.get("user", ""))
    if person and person.team != workspace.team:
        profile = {
            "name": person.name,
            "first_name": person.real_name.split()[0],
            "real_name": person.real_name,
            "display_name": person.name,
            "team": person.team,
            "is_restricted": False,
            "is_ultra_restricted": False,
            "avatar_hash": "",
            "image_72": f"{workspace.base_url}/icon/72.png",
        }
        event |= {"user_team": person.team, "source_team": person.team, "user_profile": profile}
    return event | {"channel": channel.id, "event_ts": message["ts"]}


def changed(workspace: Workspace, channel: Channel, message: Json, before: Json) -> Json:
    ts = workspace.next_ts()
    return {
        "type": "message",
        "subtype": "message_changed",
        "hidden": True,
        "channel": channel.id,
        "ts": ts,
        "event_ts": ts,
        "channel_type": channel.kind,
        "message": {name: message[name] for name in INNER if name in message},
        "previous_message": {name: before[name] for name in INNER if name in before},
    }


def deleted(workspace: Workspace, channel: Channel, message: Json) -> Json:
    ts = workspace.next_ts()
    return {
        "type": "message",
        "subtype": "message_deleted",
        "hidden": True,
        "channel": channel.id,
        "ts": ts,
        "event_ts": ts,
        "deleted_ts": message["ts"],
        "channel_type": channel.kind,
        "previous_message": {name: message[name] for name in INNER if name in message},
    }


def event_callback(workspace: Workspace, event: Json, *, shared: bool = False) -> Json:
    """The body that carries one event to the app (Events API)."""
    context = {"et": event.get("type"), "tid": workspace.team, "aid": workspace.app}
    return {
        "token": "stand-in-verification",
        "team_id": workspace.team,
        "enterprise_id": None,
        "api_app_id": workspace.app,
        "event": event,
        "type": "event_callback",
        "event_id": "Ev" + uuid.uuid4().hex[:9].upper(),
        "event_time": int(time.time()),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": workspace.team,
                "user_id": workspace.bot_user,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": shared,
        "event_context": "4-" + base64.b64encode(str(context).encode()).decode(),
    }


def block_actions(
    workspace: Workspace,
    channel: Channel,
    message: Json,
    person: Person,
    *,
    action_id: str,
    trigger: str,
) -> Json:
    """A pressed button. Raises LookupError where the message has none of that action_id."""
    for block in message.get("blocks", []):
        for element in block.get("elements", []):
            if element.get("action_id") != action_id:
                continue
            thread = {"thread_ts": message["thread_ts"]} if "thread_ts" in message else {}
            action = {
                "type": element["type"],
                "block_id": block.get("block_id", ""),
                "action_id": action_id,
                "text": element.get("text"),
                "value": element.get("value", ""),
                "action_ts": workspace.next_ts(),
            }
            return {
                "type": "block_actions",
                "team": {"id": workspace.team, "domain": workspace.domain},
                "user": {
                    "id": person.id,
                    "username": person.name,
                    "name": person.name,
                    "team_id": person.team,
                },
                "api_app_id": workspace.app,
                "token": "stand-in-verification",
                "container": {
                    "type": "message",
                    "message_ts": message["ts"],
                    "channel_id": channel.id,
                    "is_ephemeral": False,
                    **thread,
                },
                "trigger_id": trigger,
                "channel": {"id": channel.id, "name": channel.name or "directmessage"},
                "message": message,
                "actions": [action],
            }
    raise LookupError(f"no button {action_id!r} in {message['ts']}")
