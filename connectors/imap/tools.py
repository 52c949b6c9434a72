"""Labels and calls for a person: the agent's tools, and what it says of a mail it only sorts.

Neither lets a word of the agent leave: a label is one short keyword on a mail in the mailbox, and
people are told which turn to look at, in words of ours. An agent of strangers has no tools at all,
so when mail is sorted its whole answer is read as a verdict instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.model import (
    ConversationId,
    EffectId,
    EffectKind,
    JsonObject,
    Message,
    NewEffect,
    Turn,
    TurnId,
    effect_id,
)
from daemon.ports import ToolSpec

LABELS = (
    *("urgent", "question", "request", "complaint", "order", "invoice", "appointment"),
    *("application", "newsletter", "notification", "personal", "spam", "other"),
)
UNSORTED = "unsorted"  # the verdict was none
NEEDS_A_PERSON = "needs-a-person"
REASONS = {
    "urgent": "it is urgent",
    "complaint": "somebody complains",
    "decision": "it needs a decision",
    "unsure": "the agent is not sure what is right",
}
_LABEL = re.compile(r"[a-z][a-z0-9-]{0,23}")
_PREFIX = "Triage/"  # an IMAP keyword; a prefix keeps clear of everybody else's

SORTING = (
    "[A mail, only to be sorted: nobody is answered. Answer with one JSON object and nothing "
    'else: {"label": "...", "person": false, "note": "..."}. The label is one of '
    f"{', '.join(LABELS)}, unless your instructions name others; person is true where somebody "
    "should look at it soon; the note says in one sentence what it is about.]"
)

TOOLS = (
    ToolSpec(
        name="label",
        description=(
            "Put a label on the mail that you are answering, for the people who own the mailbox. "
            f"One of: {', '.join(LABELS)}; or another that your instructions name."
        ),
        schema={
            "type": "object",
            "properties": {"label": {"type": "string", "pattern": f"^{_LABEL.pattern}$"}},
            "required": ["label"],
            "additionalProperties": False,
        },
        answer="The label will be there once your answer is done.",
    ),
    ToolSpec(
        name="escalate",
        description=(
            "Tell the people who own the mailbox that one of them should look at this mail soon. "
            "Your answer goes on as usual."
        ),
        schema={
            "type": "object",
            "properties": {"reason": {"type": "string", "enum": list(REASONS)}},
            "required": ["reason"],
            "additionalProperties": False,
        },
        answer="They will be told once your answer is done.",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the agent says of a mail that it sorts."""

    label: str
    person: bool


@dataclass(frozen=True, slots=True)
class Occasion:
    """What an effect comes of: a call of a tool, or an answer. `key` makes the effects' ids."""

    connector: str
    conversation: ConversationId
    turn: TurnId | None
    messages: tuple[Message, ...]
    key: str


def compose_tool(
    connector: str, tool: str, arguments: JsonObject, key: str, turn: Turn
) -> NewEffect | str:
    """The effect of a call, or why there is none. Which mails it concerns is not the model's."""
    messages = tuple(stored.message for stored in turn.messages)
    occasion = Occasion(connector, turn.conversation, turn.id, messages, key)
    if tool == "label":
        word = str(arguments.get("label", "")).lower()
        if not _LABEL.fullmatch(word):
            return "A label is one word of lower-case letters, digits and hyphens, at most 24."
        return label(occasion, 0, word)
    reason = REASONS.get(str(arguments.get("reason", "")))
    if tool != "escalate" or reason is None:
        return f"The reason is one of: {', '.join(REASONS)}."
    return call_for_a_person(occasion, 0, reason)


def sort(occasion: Occasion, text: str) -> tuple[NewEffect, ...]:
    """The effects of an answer in the mode `triage`: a label, and a notice where one is due."""
    verdict = verdict_of(text)
    effects = [label(occasion, 0, verdict.label)]
    if verdict.person:
        effects.append(label(occasion, 1, NEEDS_A_PERSON))
        effects.append(call_for_a_person(occasion, 2, "it should be looked at soon"))
    return tuple(effects)


def verdict_of(text: str) -> Verdict:
    """The JSON object in an answer. One that makes no sense leaves the mail unsorted."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[begin : end + 1])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        return Verdict(UNSORTED, person=False)
    word = str(found.get("label", "")).strip().lower()
    return Verdict(word if _LABEL.fullmatch(word) else UNSORTED, found.get("person") is True)


def label(occasion: Occasion, position: int, word: str) -> NewEffect:
    return NewEffect(
        id=effect_id(occasion.key, position),
        connector=occasion.connector,
        conversation=occasion.conversation,
        kind=EffectKind.LABEL,
        target={"mails": [message.target["mail"] for message in occasion.messages]},
        body={"keyword": _PREFIX + word},
    )


def call_for_a_person(occasion: Occasion, position: int, why: str) -> NewEffect:
    """Ids and our own words: nothing of the mail goes along."""
    where = occasion.turn or occasion.conversation
    text = f"{occasion.connector}: a mail needs a person, as {why}. See: postroom trace {where}"
    return notice(occasion, effect_id(occasion.key, position), text)


def notice(occasion: Occasion, id_: EffectId, text: str) -> NewEffect:
    """For the people of `daemon.notify`, whom only the daemon knows."""
    return NewEffect(
        id=id_,
        connector=occasion.connector,
        conversation=occasion.conversation,
        kind=EffectKind.NOTICE,
        target={"people": True},
        body={"text": text},
    )
