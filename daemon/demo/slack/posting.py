"""Messages come, change and go: the state, the journal, and the event that tells the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.slack import events, payloads

if TYPE_CHECKING:
    from daemon.demo.slack.workspace import Channel, Workspace

Json = dict[str, Any]


def post(
    workspace: Workspace, channel: Channel, message: Json, *, by: str, mentions: str = ""
) -> list[str]:
    """Store `message` (it has its ts), tell the app; the ids of the events that were sent."""
    ts = message["ts"]
    root = message.get("thread_ts")
    if root and root in channel.messages:
        parent = channel.messages[root]
        message["parent_user_id"] = parent.get("user", "")
        _count_reply(parent, message)
    channel.messages[ts] = message
    workspace.journal.write(
        "post",
        by=by,
        channel=channel.id,
        ts=ts,
        thread_ts=root,
        user=message.get("user"),
        text=message.get("text", ""),
        metadata=message.get("metadata"),
        files=[file["id"] for file in message.get("files", [])],
    )
    return [
        workspace.publish(event, channel.shared)
        for event in events.events_of_post(workspace, channel, message, mentions)
    ]


def _count_reply(parent: Json, reply: Json) -> None:
    users = parent.setdefault("reply_users", [])
    if reply.get("user") not in users:
        users.append(reply.get("user"))
    parent |= {
        "thread_ts": parent["ts"],
        "reply_count": parent.get("reply_count", 0) + 1,
        "reply_users_count": len(users),
        "latest_reply": reply["ts"],
        "is_locked": False,
        "subscribed": False,
    }


def change(
    workspace: Workspace, channel: Channel, ts: str, *, by: str, edited: bool = True, **new: Any
) -> str:
    """Change fields of a stored message; the id of the first event that tells of it, else ""."""
    message = workspace.message(channel, ts)
    before = dict(message)
    message.update(new)
    if edited:
        message["edited"] = {"user": by, "ts": workspace.next_ts()}
    workspace.journal.write(
        "update",
        by=by,
        channel=channel.id,
        ts=ts,
        thread_ts=message.get("thread_ts"),
        text=message.get("text", ""),
        metadata=message.get("metadata"),
    )
    told = []
    if workspace.bot_user in channel.members:
        told.append(events.changed(workspace, channel, message, before))
    if edited:
        told += events.mention_of(workspace, channel, message)
    return next(iter([workspace.publish(event, channel.shared) for event in told]), "")


def remove(workspace: Workspace, channel: Channel, ts: str, *, by: str) -> str:
    """Delete a stored message; the id of the event that tells of it, else "". One that replies hang
    from leaves a tombstone, told of as a change (matterbridge #600, slack-edge #10).
    """
    message = workspace.message(channel, ts)
    workspace.journal.write("delete", by=by, channel=channel.id, ts=ts)
    if len(channel.thread(ts)) > 1:
        channel.messages[ts] = tombstone = payloads.tombstone(message)
        if workspace.bot_user not in channel.members:
            return ""
        event = events.changed(workspace, channel, tombstone, message)
        return workspace.publish(event, channel.shared)
    del channel.messages[ts]
    if workspace.bot_user not in channel.members:
        return ""
    return workspace.publish(events.deleted(workspace, channel, message), channel.shared)
