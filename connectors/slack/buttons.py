"""Buttons beside an approval: the post that asks, what takes its place, what a press means. Pure.

Shapes: docs.slack.dev, reference/interaction-payloads/block_actions-payload, reference/block-kit.
What an agent wrote is shown as preformatted text: nothing in it can call people, or pass for ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.slack.fields import ID, TS, MalformedError, field, mapping, sound
from connectors.slack.inbound import Bot, Directory, Skipped
from daemon.model import (
    Approval,
    ApprovalId,
    Decision,
    Effect,
    EffectId,
    EffectKind,
    JsonObject,
    NewEffect,
    Sender,
    effect_id,
)

APPROVE, DENY = "approve", "deny"
_APPROVAL = re.compile(r"apr-[0-9a-f]{32}")


# --- out


def compose_request(approval: Approval, text: str, shown: str) -> NewEffect:
    """The post that asks: a sentence of ours, what the call would be made with, and two buttons."""
    buttons = {
        "type": "actions",
        "block_id": approval.id,
        "elements": [
            _button("Approve", APPROVE, approval.id, "primary"),
            _button("Deny", DENY, approval.id, "danger"),
        ],
    }
    body = {"text": text, "blocks": [_line(text), _literal(shown), buttons]}
    return _effect(approval, EffectKind.REQUEST, body)


def compose_outcome(approval: Approval, text: str, shown: str) -> NewEffect:
    """What takes its place: the same without buttons, and what came of it."""
    body = {
        "text": text,
        "blocks": [_line(text), _literal(f"{approval.tool} {shown}")],
        "replaces": _id(approval, EffectKind.REQUEST),
    }
    return _effect(approval, EffectKind.OUTCOME, body)


def update_arguments(effect: Effect, channel: str, ts: str) -> dict[str, Any]:
    """chat.update's arguments: the same however often it is called."""
    text, blocks = effect.body.get("text"), effect.body.get("blocks")
    return {"channel": channel, "ts": ts, "text": text, "blocks": blocks}


def replaced(effect: Effect) -> EffectId:
    """The post whose place an outcome takes."""
    return EffectId(str(effect.body.get("replaces")))


def _effect(approval: Approval, kind: EffectKind, body: JsonObject) -> NewEffect:
    return NewEffect(
        id=_id(approval, kind),
        connector=approval.connector,
        conversation=approval.conversation,
        kind=kind,
        target=_place(approval),
        body=body,
    )


def _id(approval: Approval, kind: EffectKind) -> EffectId:
    return effect_id(f"{approval.id}/{kind.value}", 0)


def _place(approval: Approval) -> JsonObject:
    """The thread that "slack:TEAM:CHANNEL:ROOT" names."""
    _, _, channel, root = approval.conversation.split(":")
    return {"channel": channel, "thread_ts": root}


def _button(label: str, action: str, value: str, style: str) -> JsonObject:
    text = {"type": "plain_text", "text": label}
    return {"type": "button", "action_id": action, "text": text, "value": value, "style": style}


def _line(text: str) -> JsonObject:
    return {"type": "section", "text": {"type": "plain_text", "text": text}}


def _literal(text: str) -> JsonObject:
    written = {"type": "text", "text": text}
    return {
        "type": "rich_text",
        "elements": [{"type": "rich_text_preformatted", "elements": [written]}],
    }


# --- in


def pressed(
    connector: str, body: Mapping[str, Any], bot: Bot, people: Directory
) -> Decision | Skipped:
    """What a block_actions payload means. Never raises, whatever JSON it is given."""
    actions = body.get("actions")
    action = actions[0] if isinstance(actions, list) and actions else None
    if not isinstance(action, Mapping) or action.get("action_id") not in (APPROVE, DENY):
        return Skipped("payload block_actions")
    container = mapping(body, "container")
    try:
        approval = field(action, "value", _APPROVAL)
        user = field(mapping(body, "user"), "id", ID)
        channel, ts = field(container, "channel_id", ID), field(container, "message_ts", TS)
    except MalformedError as error:
        return Skipped(f"a press that makes no sense: {error}")
    thread = mapping(body, "message").get("thread_ts")
    return Decision(
        connector=connector,
        outside_id=f"act:{bot.team}:{channel}:{ts}:{user}:{action['action_id']}",
        approval=ApprovalId(approval),
        approve=action["action_id"] == APPROVE,
        sender=_presser(mapping(body, "user"), user, bot, people),
        target={"channel": channel, "thread_ts": thread or ts, "user": user},
    )


def _presser(user: Mapping[str, Any], id_: str, bot: Bot, people: Directory) -> Sender:
    """People of other organisations keep the id of their own team. Whoever is not known yet is no
    operator: those are known from the configuration.
    """
    home, called = user.get("team_id"), sound(user.get("name"))[:80]
    known = people.judge(id_, home if isinstance(home, str) else None, called or None)
    if known is None:
        return Sender(f"slack:{bot.team}:{id_}", called or id_, None)
    return Sender(known.sender, known.name, known.trust)
