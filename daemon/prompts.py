"""The text of a prompt: the turn's messages, each with where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from daemon.model import Message, Turn

_AGAIN = (
    "Your work on the messages below was interrupted before you answered. What you have already "
    "done stands: go on from there, and do not repeat it."
)
_HISTORY = "Your memory of this conversation was lost. This is what was said before:"


def prompt_text(turn: Turn, attempt: int, history: Sequence[str] = ()) -> str:
    """What an attempt sends. `history` is given where the session's transcript is lost."""
    parts = []
    if history:
        parts.append("\n\n".join((_HISTORY, *history)))
    if attempt > 1:
        parts.append(_AGAIN)
    parts.extend(_message(stored.message) for stored in turn.messages)
    return "\n\n".join(parts)


def _message(message: Message) -> str:
    trust = message.sender.trust.value if message.sender.trust else "public"
    when = datetime.fromtimestamp(message.sent_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    head = [
        f"[{message.connector} | {message.sender.name} ({message.sender.id}) | {trust} | {when}]"
    ]
    if message.subject:
        head.append(f"Subject: {message.subject}")
    head.extend(
        f"Attachment (not shown): {file.name}, {file.media_type}, {file.size} bytes"
        for file in message.attachments
    )
    return "\n".join((*head, message.text))
