"""The text of a prompt: the turn's messages, each with where it came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from daemon.model import Message, Turn

_AGAIN = (
    "Your work on the messages below was interrupted before you answered. What you have already "
    "done stands: go on from there, and do not repeat it."
)
# A line of a text that would pass for the head of somebody else's message is quoted.
_LIKE_A_HEAD = re.compile(r"^(?=[^\S\n]*\[[^\n|]*\|[^\n|]*\|)", re.MULTILINE)
_HISTORY = "Your memory of this conversation was lost. This is what was said before:"


def prompt_text(turn: Turn, attempt: int, history: Sequence[str] = ()) -> str:
    """What an attempt sends. `history` is given where the session's transcript is lost."""
    parts = []
    if history:
        parts.append("\n\n".join((_HISTORY, *map(_quoted, history))))
    if attempt > 1:
        parts.append(_AGAIN)
    parts.extend(_message(stored.message) for stored in turn.messages)
    return "\n\n".join(parts)


def _message(message: Message) -> str:
    sender = message.sender
    trust = sender.trust.value if sender.trust else "public"
    who = f"{_one_line(sender.name)} ({_one_line(sender.id)})"
    head = [f"[{message.connector} | {who} | {trust} | {_when(message.sent_at)}]"]
    if message.subject:
        head.append(f"Subject: {_one_line(message.subject)}")
    head.extend(
        f"Attachment (not shown): {_one_line(file.name)}, {_one_line(file.media_type)}, "
        f"{file.size} bytes"
        for file in message.attachments
    )
    return "\n".join((*head, _quoted(message.text)))


def _quoted(text: str) -> str:
    return _LIKE_A_HEAD.sub("> ", text)


def _one_line(text: str) -> str:
    """What stands in a head must not be able to end it."""
    return " ".join(text.split()).replace("|", "/")


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):  # a mail may be dated in any year
        return "at an unknown time"
