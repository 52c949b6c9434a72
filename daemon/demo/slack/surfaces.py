"""What a bot shows beside messages: statuses, prompts, titles, reactions, views."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from daemon.demo.slack.reads import readable
from daemon.demo.slack.workspace import RefusedError, Workspace

if TYPE_CHECKING:
    from daemon.demo.slack.arguments import Arguments

Json = dict[str, Any]

TRIGGER_SECONDS = 3.0  # a trigger_id's life: docs.slack.dev/interactivity
SESSION_STATES = ("processing", "suspended", "active")


def _shown(workspace: Workspace, args: Arguments, kind: str, **facts: Any) -> Json:
    channel = workspace.channel(args.text("channel_id"))
    workspace.journal.write(
        kind, channel=channel.id, thread_ts=args.text("thread_ts") or None, **facts
    )
    return {}


def set_status(workspace: Workspace, args: Arguments) -> Json:
    """assistant.threads.setStatus: free text, cleared by an empty one."""
    if not args.text("thread_ts"):
        raise RefusedError("invalid_arguments")
    messages = args.nested("loading_messages") or []
    if len(messages) > 10:
        raise RefusedError("invalid_arguments")
    return _shown(workspace, args, "status", status=args.text("status"), by="assistant.threads")


def set_session_status(workspace: Workspace, args: Arguments) -> Json:
    """agents.sessions.setStatus: `not_authorized` where the app is not declared as an agent."""
    if not workspace.agent_declared:
        raise RefusedError("not_authorized")
    if args.text("status") not in SESSION_STATES:
        raise RefusedError("invalid_arguments")
    return _shown(workspace, args, "status", status=args.text("status"), by="agents.sessions")


def set_suggested_prompts(workspace: Workspace, args: Arguments) -> Json:
    prompts = args.nested("prompts")
    if not prompts or len(prompts) > 4:
        raise RefusedError("invalid_arguments")
    return _shown(workspace, args, "prompts", prompts=prompts)


def set_title(workspace: Workspace, args: Arguments) -> Json:
    return _shown(workspace, args, "title", title=args.text("title"))


def add_reaction(workspace: Workspace, args: Arguments) -> Json:
    return _react(workspace, args, adding=True)


def remove_reaction(workspace: Workspace, args: Arguments) -> Json:
    return _react(workspace, args, adding=False)


def _react(workspace: Workspace, args: Arguments, *, adding: bool) -> Json:
    channel = readable(workspace, args)
    ts, name = args.text("timestamp"), args.text("name")
    react(workspace, channel.id, ts, name, workspace.bot_user, adding=adding)
    return {}


def react(
    workspace: Workspace, channel: str, ts: str, name: str, user: str, *, adding: bool
) -> None:
    """Raises RefusedError `already_reacted`, `no_reaction`, `message_not_found`."""
    message = workspace.message(workspace.channel(channel), ts)
    reactions: list[Json] = message.setdefault("reactions", [])
    found = next((r for r in reactions if r["name"] == name), None)
    users: list[str] = found["users"] if found else []
    if adding == (user in users):
        raise RefusedError("already_reacted" if adding else "no_reaction")
    if found is None:
        found = {"name": name, "users": users, "count": 0}
        reactions.append(found)
    if adding:
        users.append(user)
    else:
        users.remove(user)
    found["count"] = len(users)
    if not users:
        reactions.remove(found)
    kind = "reaction_added" if adding else "reaction_removed"
    workspace.journal.write(kind, channel=channel, ts=ts, name=name, user=user)
    item = {"type": "message", "channel": channel, "ts": ts}
    workspace.publish(
        {
            "type": kind,
            "user": user,
            "item": item,
            "reaction": name,
            "item_user": message.get("user", ""),
            "event_ts": workspace.next_ts(),
        },
        False,
    )


def _view(workspace: Workspace, args: Arguments, **more: Any) -> Json:
    given = args.nested("view")
    if not isinstance(given, dict) or given.get("type") not in ("home", "modal"):
        raise RefusedError("invalid_arguments")
    view: Json = {
        "id": "V" + uuid.uuid4().hex[:9].upper(),
        "team_id": workspace.team,
        "app_id": workspace.app,
        "bot_id": workspace.bot_id,
        "hash": uuid.uuid4().hex[:12],
        "state": {"values": {}},
        **given,
    }
    view["root_view_id"] = view["id"]
    workspace.views.append(view)
    workspace.journal.write("view", view=view, **more)
    return {"view": view}


def publish_view(workspace: Workspace, args: Arguments) -> Json:
    return _view(workspace, args, user=workspace.person(args.text("user_id")).id)


def open_view(workspace: Workspace, args: Arguments) -> Json:
    """A trigger is good for three seconds, once."""
    issued = workspace.triggers.pop(args.text("trigger_id"), None)
    if issued is None:
        raise RefusedError("invalid_trigger")
    if time.monotonic() - issued > TRIGGER_SECONDS:
        raise RefusedError("expired_trigger_id")
    return _view(workspace, args)


def update_view(workspace: Workspace, args: Arguments) -> Json:
    if not any(view["id"] == args.text("view_id") for view in workspace.views):
        raise RefusedError("not_found")
    return _view(workspace, args)
