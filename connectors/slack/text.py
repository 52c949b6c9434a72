"""Slack's way of writing a message, as plain text that an agent reads.

Entities: docs.slack.dev/messaging/formatting-message-text, "retrieving messages".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_ENTITY = re.compile(r"<([^<>\n]{1,4000})>")
_BARE = re.compile(r"^(?:https?://|mailto:|tel:)")


def without_mention(text: str, user: str) -> str:
    """The text without the mentions of `user` that it opens with."""
    opening = re.compile(rf"\s*<@{re.escape(user)}(?:\|[^<>]*)?>[\s,:;]*")
    while match := opening.match(text):
        text = text[match.end() :]
    return text.strip()


def readable(text: str, name_of: Callable[[str], str | None], names: Mapping[str, str]) -> str:
    """Entities as people see them: @name, #channel, "label (link)"; then `&amp;` and its kin.
    `names` goes before `name_of`; somebody unknown stays "@" and the id.
    """

    def shown(match: re.Match[str]) -> str:
        what, _, label = match[1].partition("|")
        if what.startswith("@"):
            user = what[1:]
            return f"@{names.get(user) or name_of(user) or label or user}"
        if what.startswith("#"):
            return f"#{label or what[1:]}"
        if what.startswith("!"):
            return _special(what[1:], label)
        address = _BARE.sub("", what)
        return what if label in ("", what, address) else f"{label} ({what})"

    plain = _ENTITY.sub(shown, text)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _special(what: str, label: str) -> str:
    """`<!here>`, `<!subteam^S1|@team>`, `<!date^123^{date}|a fallback>`."""
    word = what.partition("^")[0]
    if word == "date":
        return label or what
    return label if label.startswith("@") else f"@{label or word}"
