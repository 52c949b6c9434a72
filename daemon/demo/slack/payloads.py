"""Shapes of Slack's JSON, as pure functions of the workspace's state.

Each field occurs in Slack's published samples (tests/data/slack/published_fields.json, checked by
tests/contract/test_slack_standin.py). What this app never sees is left out.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.demo.slack.workspace import Channel, Person, StoredFile, Workspace

Json = dict[str, Any]

MENTION = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")
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
    "user_team", "source_team", "user_profile",
)  # fmt: skip
INNER = (
    "client_msg_id", "type", "subtype", "user", "team", "bot_id", "bot_profile", "edited", "text",
    "blocks", "upload", "display_as_bot", "thread_ts", "parent_user_id", "ts", "user_team",
    "source_team", "reply_count", "reply_users_count", "latest_reply",
)  # fmt: skip


def rich_text(text: str) -> list[Json]:
    """The `blocks` that Slack's own client sends beside a typed text."""
    elements: list[Json] = []
    at = 0
    for match in MENTION.finditer(text):
        if match.start() > at:
            elements.append({"type": "text", "text": text[at : match.start()]})
        elements.append({"type": "user", "user_id": match[1]})
        at = match.end()
    if at < len(text):
        elements.append({"type": "text", "text": text[at:]})
    section = {"type": "rich_text_section", "elements": elements}
    return [{"type": "rich_text", "block_id": uuid.uuid4().hex[:5], "elements": [section]}]


def human_message(person: Person, text: str, ts: str, thread_ts: str | None) -> Json:
    message: Json = {
        "client_msg_id": str(uuid.uuid4()),
        "type": "message",
        "user": person.id,
        "text": text,
        "ts": ts,
        "team": person.team,
        "blocks": rich_text(text),
    }
    if thread_ts:
        message["thread_ts"] = thread_ts
    return message


def bot_message(workspace: Workspace, text: str, ts: str, thread_ts: str | None) -> Json:
    message: Json = {
        "type": "message",
        "user": workspace.bot_user,
        "bot_id": workspace.bot_id,
        "app_id": workspace.app,
        "team": workspace.team,
        "text": text,
        "ts": ts,
        "bot_profile": {
            "id": workspace.bot_id,
            "app_id": workspace.app,
            "team_id": workspace.team,
            "name": workspace.bot_name,
            "deleted": False,
            "updated": 1_700_000_000,
            "icons": {f"image_{n}": f"{workspace.base_url}/icon/{n}.png" for n in (36, 48, 72)},
        },
    }
    if thread_ts:
        message["thread_ts"] = thread_ts
    return message


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
    named = workspace.bot_user in MENTION.findall(message.get("text", ""))
    if named and channel.kind != "im" and message.get("user") != workspace.bot_user:
        events.append(_mention(workspace, channel, message))
    return events[::-1] if mentions == "first" else events


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


def user(workspace: Workspace, person: Person) -> Json:
    """users.info: guests are `is_restricted`, a single-channel guest also `is_ultra_restricted`."""
    profile = {
        "real_name": person.real_name,
        "real_name_normalized": person.real_name,
        "display_name": person.name,
        "display_name_normalized": person.name,
        "team": person.team,
        "image_72": f"{workspace.base_url}/icon/72.png",
    }
    shape: Json = {
        "id": person.id,
        "team_id": person.team,
        "name": person.name,
        "deleted": False,
        "real_name": person.real_name,
        "tz": "Europe/London",
        "tz_label": "Greenwich Mean Time",
        "tz_offset": 0,
        "profile": profile,
        "is_bot": person.kind == "bot",
        "is_app_user": False,
        "updated": 1_700_000_000,
    }
    if person.kind == "stranger":
        return shape | {"is_stranger": True}
    if person.kind == "bot":
        profile |= {"bot_id": "B" + person.id[1:], "api_app_id": "A" + person.id[1:]}
        if person.id == workspace.bot_user:
            profile |= {"bot_id": workspace.bot_id, "api_app_id": workspace.app}
    else:
        profile["email"] = f"{person.name}@example.com"
    return shape | {
        "is_admin": person.kind == "admin",
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": person.kind in ("guest", "single_channel_guest"),
        "is_ultra_restricted": person.kind == "single_channel_guest",
        "is_email_confirmed": True,
    }


def conversation(workspace: Workspace, channel: Channel) -> Json:
    """conversations.info's `channel`."""
    shape: Json = {
        "id": channel.id,
        "created": 1_700_000_000,
        "is_archived": channel.archived,
        "is_im": channel.kind == "im",
        "is_org_shared": False,
        "context_team_id": workspace.team,
        "updated": 1_700_000_000_000,
    }
    if channel.kind == "im":
        return shape
    empty = {"value": "", "creator": "", "last_set": 0}
    return shape | {
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": channel.kind == "channel",
        "is_group": channel.kind == "group",
        "is_mpim": channel.kind == "mpim",
        "is_private": channel.kind != "channel",
        "is_general": channel.name == "general",
        "is_shared": channel.shared,
        "is_ext_shared": channel.shared,
        "is_member": workspace.bot_user in channel.members,
        "creator": "U0001",
        "unlinked": 0,
        "topic": empty,
        "purpose": empty,
        "num_members": len(channel.members),
        "shared_team_ids": [workspace.team, "T0002"] if channel.shared else [workspace.team],
    }


def file(workspace: Workspace, stored: StoredFile) -> Json:
    size = len(stored.content or b"")
    address = f"{workspace.base_url}/files-pri/{workspace.team}-{stored.id}"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", stored.name)
    kind = stored.name.rpartition(".")[2] if "." in stored.name else "binary"
    return {
        "id": stored.id,
        "created": 1_700_000_000,
        "timestamp": 1_700_000_000,
        "name": stored.name,
        "title": stored.title,
        "mimetype": stored.mimetype,
        "filetype": kind,
        "pretty_type": kind.upper(),
        "user": stored.user,
        "user_team": workspace.team,
        "editable": False,
        "size": size,
        "mode": "hosted",
        "is_external": False,
        "external_type": "",
        "is_public": False,
        "public_url_shared": False,
        "display_as_bot": False,
        "username": "",
        "url_private": f"{address}/{name}",
        "url_private_download": f"{address}/download/{name}",
        "permalink": f"{workspace.base_url}/files/{stored.user}/{stored.id}/{name}",
        "has_rich_preview": False,
        "file_access": "visible",
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
                },
                "trigger_id": trigger,
                "channel": {"id": channel.id, "name": channel.name or "directmessage"},
                "message": message,
                "actions": [action],
            }
    raise LookupError(f"no button {action_id!r} in {message['ts']}")
