"""Shapes of what Slack keeps (messages, people, channels, files), as pure functions of state.

Each field occurs in Slack's published samples (tests/data/slack/published_fields.json, checked by
tests/contract/test_slack_standin.py). What this app never sees is left out.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.demo.slack.workspace import Channel, Person, StoredFile, Workspace

Json = dict[str, Any]

MENTION = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")


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
    """Of a person; of another app's bot it names the bot, and no client has sent it."""
    message: Json = {
        "client_msg_id": str(uuid.uuid4()),
        "type": "message",
        "user": person.id,
        "text": text,
        "ts": ts,
        "team": person.team,
        "blocks": rich_text(text),
    }
    if person.kind == "bot":
        del message["client_msg_id"]
        message["bot_id"] = f"B{person.id[1:]}"
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


def tombstone(root: Json) -> Json:
    """What stands for a deleted message from which replies hang."""
    kept = ("ts", "thread_ts", "reply_count", "reply_users_count", "latest_reply", "reply_users")
    return {name: root[name] for name in kept if name in root} | {
        "type": "message",
        "subtype": "tombstone",
        "text": "This message was deleted.",
        "user": "USLACKBOT",
        "hidden": True,
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


def listed(workspace: Workspace, channel: Channel) -> Json:
    """One of users.conversations' `channels`: its page says that two fields are left out."""
    shape = conversation(workspace, channel)
    if channel.kind == "im":
        (user,) = channel.members - {workspace.bot_user}
        return shape | {"user": user, "is_user_deleted": False}
    return {name: shape[name] for name in shape if name not in ("is_member", "num_members")}


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
