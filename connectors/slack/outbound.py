"""What leaves: answers as posts, and the arguments of the call that carries one out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.slack.split import split
from daemon.model import (
    Answer,
    ConversationId,
    Effect,
    EffectKind,
    NewEffect,
    effect_id,
)

MAX_POST = 11_500  # Slack takes 12,000 of markdown_text: docs.slack.dev, chat.postMessage
EVENT_TYPE = "agent_reply"
# Entities by which a post would call people: never from a model's text. Seen, they stay the same.
_CALLS = re.compile(r"<(?=@[A-Z0-9]|!(?:channel|here|everyone|group|subteam))", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"


def compose(answer: Answer) -> tuple[NewEffect, ...]:
    """An answer's posts, in order; ids are the same however often it is composed."""
    target = dict(answer.messages[-1].target)
    pieces = [piece.whole for piece in split(neutral(answer.text), MAX_POST)]
    return tuple(
        NewEffect(
            id=effect_id(answer.key, position),
            connector=answer.connector,
            conversation=answer.conversation,
            kind=EffectKind.POST,
            target=target,
            body={"markdown": text},
        )
        for position, text in enumerate(text for text in pieces if text.strip())
    )


def compose_notice(connector: str, key: str, address: str, text: str) -> NewEffect:
    """A notice to people: `address` is a channel's id, or a user's (direct messages)."""
    return NewEffect(
        id=effect_id(key, 0),
        connector=connector,
        conversation=ConversationId(f"notice:slack:{address}"),
        kind=EffectKind.NOTICE,
        target={"channel": address},
        body={"markdown": neutral(text)[:MAX_POST]},
    )


def neutral(text: str) -> str:
    """The text without entities that call people: a zero-width space breaks each of them."""
    return _CALLS.sub(f"<{_ZERO_WIDTH_SPACE}", text)


def post_arguments(effect: Effect, channel: str) -> dict[str, Any]:
    """chat.postMessage's arguments. The metadata is how the post is found again: ids only, as
    members and other apps can read it. markdown_text excludes `text` and `blocks` (docs).
    """
    thread = effect.target.get("thread_ts")
    said: dict[str, Any] = {"markdown_text": str(effect.body.get("markdown", ""))}
    if "blocks" in effect.body:
        said = {name: effect.body[name] for name in ("text", "blocks")}
    return {
        "channel": channel,
        **said,
        "thread_ts": thread if isinstance(thread, str) else None,
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {"event_type": EVENT_TYPE, "event_payload": {"d": effect.id}},
    }


def carries(message: object, effect: Effect) -> bool:
    """Whether a message that was read back is this effect."""
    metadata = message.get("metadata") if isinstance(message, Mapping) else None
    payload = metadata.get("event_payload") if isinstance(metadata, Mapping) else None
    return isinstance(payload, Mapping) and payload.get("d") == effect.id
