"""The `chat.*` methods: posts, changes, streams. Each takes the workspace and the arguments."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from daemon.demo.slack import payloads, posting
from daemon.demo.slack.arguments import Arguments
from daemon.demo.slack.workspace import Channel, RefusedError, Stream, Workspace

Json = dict[str, Any]

MAX_MARKDOWN = 12_000  # docs.slack.dev/reference/methods/chat.postMessage
MAX_TEXT = 40_000  # truncated above
MAX_BLOCKS = 50
MAX_METADATA = 16_000  # bytes of JSON
TS = re.compile(r"\d{9,10}\.\d{6}")


def writable(workspace: Workspace, args: Arguments) -> Channel:
    """The channel that the bot may write to. Raises RefusedError."""
    channel = workspace.channel(args.text("channel"))
    if channel.archived:
        raise RefusedError("is_archived")
    if workspace.bot_user not in channel.members:
        raise RefusedError("not_in_channel")
    return channel


def thread_root(channel: Channel, thread_ts: str) -> str | None:
    """The root that a post with this thread_ts hangs from: a reply's own root for a reply's ts."""
    if not thread_ts:
        return None
    if not TS.fullmatch(thread_ts):
        raise RefusedError("invalid_thread_ts")
    message = channel.messages.get(thread_ts, {})
    return str(message.get("thread_ts", thread_ts))


def content(args: Arguments) -> Json:
    """`text`, and `blocks` and `metadata` where given. Raises RefusedError as Slack names it."""
    markdown, text = args.text("markdown_text"), args.text("text")
    blocks, attachments = args.nested("blocks"), args.nested("attachments")
    if markdown and (text or blocks):
        raise RefusedError("markdown_text_conflict")
    if len(markdown) > MAX_MARKDOWN:
        raise RefusedError("msg_too_long")
    if not (markdown or text or blocks or attachments):
        raise RefusedError("no_text")
    if blocks and (not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS):
        raise RefusedError("invalid_blocks")
    found: Json = {"text": markdown or text[:MAX_TEXT]}
    found["blocks"] = blocks or payloads.rich_text(found["text"])
    if attachments:
        found["attachments"] = attachments
    return found | metadata(args)


def metadata(args: Arguments) -> Json:
    given = args.nested("metadata")
    if given is None:
        return {}
    if not isinstance(given, dict) or not {"event_type", "event_payload"} <= given.keys():
        raise RefusedError("invalid_metadata_format")
    if len(json.dumps(given)) > MAX_METADATA:
        raise RefusedError("metadata_too_large")
    return {"metadata": {name: given[name] for name in ("event_type", "event_payload")}}


def post_message(workspace: Workspace, args: Arguments) -> Json:
    channel = writable(workspace, args)
    fields = content(args)
    root = thread_root(channel, args.text("thread_ts"))
    ts = workspace.next_ts()
    message = payloads.bot_message(workspace, fields["text"], ts, root) | fields
    if root and args.flag("reply_broadcast"):
        message["subtype"] = "thread_broadcast"
    posting.post(workspace, channel, message, by="chat.postMessage")
    return {"channel": channel.id, "ts": ts, "message": message}


def post_ephemeral(workspace: Workspace, args: Arguments) -> Json:
    channel = writable(workspace, args)
    if args.text("user") not in channel.members:
        raise RefusedError("user_not_in_channel")
    fields = content(args)
    ts = workspace.next_ts()
    workspace.journal.write(
        "ephemeral",
        channel=channel.id,
        thread_ts=args.text("thread_ts") or None,
        user=args.text("user"),
        ts=ts,
        text=fields["text"],
    )
    return {"message_ts": ts}


def _own(workspace: Workspace, args: Arguments, refusal: str) -> tuple[Channel, Json]:
    channel = workspace.channel(args.text("channel"))
    message = workspace.message(channel, args.text("ts"))
    if message.get("bot_id") != workspace.bot_id:
        raise RefusedError(refusal)
    return channel, message


def update(workspace: Workspace, args: Arguments) -> Json:
    channel, message = _own(workspace, args, "cant_update_message")
    stream = workspace.streams.get((channel.id, message["ts"]))
    if stream and stream.open:
        raise RefusedError("streaming_state_conflict")
    fields = content(args)
    posting.change(workspace, channel, message["ts"], by=workspace.bot_user, **fields)
    shown = {name: message[name] for name in ("type", "user", "bot_id", "team", "text", "edited")}
    return {"channel": channel.id, "ts": message["ts"], "text": fields["text"], "message": shown}


def delete(workspace: Workspace, args: Arguments) -> Json:
    channel, message = _own(workspace, args, "cant_delete_message")
    posting.remove(workspace, channel, message["ts"], by=workspace.bot_user)
    return {"channel": channel.id, "ts": message["ts"]}


def start_stream(workspace: Workspace, args: Arguments) -> Json:
    channel = writable(workspace, args)
    root = thread_root(channel, args.text("thread_ts"))
    if root is None:
        raise RefusedError("invalid_thread_ts")
    if channel.kind != "im":
        for name in ("recipient_team_id", "recipient_user_id"):
            if not args.text(name):
                raise RefusedError(f"missing_{name}")
    text, size = _streamed(args)
    ts = workspace.next_ts()
    message = payloads.bot_message(workspace, text, ts, root)
    message["blocks"] = payloads.rich_text(text)
    cards = bool(args.nested("chunks"))
    workspace.streams[channel.id, ts] = Stream(time.monotonic(), size, cards=cards)
    posting.post(workspace, channel, message, by="chat.startStream")
    return {"channel": channel.id, "ts": ts}


def append_stream(workspace: Workspace, args: Arguments) -> Json:
    channel, message = _running(workspace, args)
    text, size = _streamed(args)
    if not size:
        raise RefusedError("no_text")
    workspace.streams[channel.id, message["ts"]].cards |= bool(args.nested("chunks"))
    _append(workspace, channel, message, text, size)
    return {"channel": channel.id, "ts": message["ts"]}


def stop_stream(workspace: Workspace, args: Arguments) -> Json:
    channel, message = _running(workspace, args)
    text, size = _streamed(args)
    blocks = args.nested("blocks")
    _append(workspace, channel, message, text, size, **metadata(args))
    if blocks:
        message["blocks"] = message["blocks"] + blocks
    workspace.streams[channel.id, message["ts"]].open = False
    workspace.journal.write("stream_stopped", channel=channel.id, ts=message["ts"])
    return {}


def _running(workspace: Workspace, args: Arguments) -> tuple[Channel, Json]:
    """The open stream. An old one is closed here: Slack ends them after about five minutes."""
    channel = workspace.channel(args.text("channel"))
    message = workspace.message(channel, args.text("ts"))
    stream = workspace.streams.get((channel.id, message["ts"]))
    if stream and time.monotonic() - stream.started > workspace.stream_seconds:
        stream.open = False
    if stream is None or not stream.open:
        raise RefusedError("message_not_in_streaming_state")
    return channel, message


def _streamed(args: Arguments) -> tuple[str, int]:
    """The text of one call of a stream, and its size in UTF-8 bytes, task cards included."""
    markdown, chunks = args.text("markdown_text"), args.nested("chunks")
    if markdown and chunks:
        raise RefusedError("invalid_arguments")
    if len(markdown) > MAX_MARKDOWN:
        raise RefusedError("msg_too_long")
    texts = [markdown]
    for chunk in chunks or []:
        if not isinstance(chunk, dict) or "type" not in chunk:
            raise RefusedError("invalid_chunks")
        if chunk["type"] == "markdown_text":
            texts.append(str(chunk.get("text", "")))
    return "".join(texts), len((markdown or (json.dumps(chunks) if chunks else "")).encode())


def _append(
    workspace: Workspace, channel: Channel, message: Json, text: str, size: int, **more: Any
) -> None:
    stream = workspace.streams[channel.id, message["ts"]]
    whole = message["text"] + text
    stream.size += size
    if len(whole) > MAX_MARKDOWN or (stream.cards and stream.size > workspace.stream_bytes):
        stream.size -= size
        raise RefusedError("msg_too_long")
    blocks = payloads.rich_text(whole)
    posting.change(
        workspace,
        channel,
        message["ts"],
        by=workspace.bot_user,
        edited=False,
        text=whole,
        blocks=blocks,
        **more,
    )
