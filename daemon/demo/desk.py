"""The demo's agent: what a real model is told of the shop, and how the scripted one speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from daemon.demo.colleague import FACTS, colleague
from daemon.demo.script import Ask, Reply, ToolCall, read_ask

HEAD = re.compile(
    r"^\[(?P<connector>[^|\]\n]+) \| (?P<name>\w+)[^|\]\n]* \([^)\n]*\) \| ", re.MULTILINE
)
"""How `daemon/prompts.py` opens each message: connector, who wrote it, their trust, when."""

SYSTEM_PROMPT = (
    "You are the desk of a small shop, and answer people in chat threads and mails. Be brief and "
    "friendly; write Markdown. Do small jobs with your tools, in your own directory. "
    "What you know of the shop:\n" + "\n".join(f"- {text}" for _, text in FACTS[:6])
)


MAILBOX = "mail"
"""The connector whose messages get a label."""
LABEL = "mcp__postroom__label"
LABELS = ((r"invoice|billing", "invoice"), (r"shipping|deliver|order", "order"))


def script(body: Mapping[str, Any]) -> Reply:
    """The colleague, who puts a label on mails first, and calls people by their names: so it shows
    who was told apart.
    """
    ask = read_ask(body)
    heads = list(HEAD.finditer(ask.prompt))
    by_mail = any(head["connector"] == MAILBOX for head in heads)
    if by_mail and LABEL in ask.tools and not ask.results:
        return Reply(calls=(_label(ask),))
    reply = colleague(body)
    names = list(dict.fromkeys(head["name"] for head in heads))
    if reply.calls or not reply.text or not names:
        return reply
    return replace(reply, text=f"{', '.join(names)}: {reply.text}")


def _label(ask: Ask) -> ToolCall:
    words = ask.prompt.lower()
    found = (label for pattern, label in LABELS if re.search(pattern, words))
    return ToolCall(LABEL, {"label": next(found, "question")})
