"""Reduces Slack's published sample payloads to their field paths: published_fields.json.

    python tests/data/slack/reduce_published.py CHECKOUT COMMIT

It writes the file beside it. CHECKOUT is a working tree of github.com/slackapi/java-slack-sdk
(MIT License), COMMIT its commit. What stands in a message's `blocks` and `files` is kept once. Ids
that are keys become `*`. Below `event_payload` and a view's `state` the app that made it decides:
nothing is kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

API = (
    "apps.connections.open", "auth.test", "team.info", "users.info", "conversations.info",
    "conversations.open", "conversations.history", "conversations.replies", "chat.postMessage",
    "chat.postEphemeral", "chat.update", "chat.delete", "chat.startStream", "chat.appendStream",
    "chat.stopStream", "reactions.add", "reactions.remove", "assistant.threads.setStatus",
    "assistant.threads.setSuggestedPrompts", "assistant.threads.setTitle", "views.publish",
    "views.open", "views.update", "files.getUploadURLExternal", "files.completeUploadExternal",
    "files.info", "users.conversations",
)  # fmt: skip
EVENTS = (
    "Message", "AppMention", "MessageChanged", "MessageDeleted", "MessageFileShare",
    "MessageThreadBroadcast", "MessageChannelJoin", "MemberJoinedChannel", "ReactionAdded",
    "ReactionRemoved", "AppHomeOpened",
)  # fmt: skip
SHARED = {"blocks": "block", "title_blocks": "block", "files": "file", "file": "file"}
OPAQUE = {"event_payload", "state", "attachments", "room", "view"}
ID_KEY = re.compile(r"[A-Z][A-Z0-9]{4,}")
NESTED = re.compile(r"(elements\[\]\.)+")  # rich text nests as deep as it likes
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


def paths(value: Any, path: str = "", *, opaque: frozenset[str] = frozenset(OPAQUE)) -> set[str]:
    """The dotted paths of all fields in a JSON value; a list's items are `[]`.

    A shared part ends the walk: its path is there, what is below it is `shared_parts`'.
    """
    if isinstance(value, list):
        return {p for item in value for p in paths(item, path + "[]", opaque=opaque)}
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, below in value.items():
        key = "*" if ID_KEY.fullmatch(name) else name
        here = f"{path}.{key}" if path else key
        found.add(here)
        if name not in opaque and name not in SHARED:
            found |= paths(below, here, opaque=opaque)
    return found


def shared_parts(value: Any, found: dict[str, set[str]] | None = None) -> dict[str, set[str]]:
    """The fields of all blocks and files in a JSON value, wherever they stand in it."""
    found = {"block": set(), "file": set()} if found is None else found
    for name, below in value.items() if isinstance(value, dict) else ():
        if name in SHARED and isinstance(below, (dict, list)):
            items = below if isinstance(below, list) else [below]
            for item in items:
                found[SHARED[name]] |= {NESTED.sub("elements[].", path) for path in paths(item)}
        if name not in OPAQUE:
            shared_parts(below, found)
    for item in value if isinstance(value, list) else ():
        shared_parts(item, found)
    return found


def frames(checkout: Path) -> dict[str, set[str]]:
    """The frames of Socket Mode: the texts in the SDK's own test, and one model's fields."""
    found: dict[str, set[str]] = {}
    java = checkout / "slack-api-client/src"
    test = java / "test/java/test_locally/api/socket_mode/EnvelopeTest.java"
    for statement in re.findall(r"String message = (.*?);\n", test.read_text(), re.DOTALL):
        text = "".join(json.loads(f'"{part}"') for part in LITERAL.findall(statement))
        frame = json.loads(text)
        found[frame["type"]] = {path for path in paths(frame) if not path.startswith("payload.")}
    model = java / "main/java/com/slack/api/socket_mode/request/DisconnectMessage.java"
    fields = re.findall(r"^( +)private (?:final )?\w+ (\w+)", model.read_text(), re.MULTILINE)
    outer = min(len(indent) for indent, _ in fields)
    snake = [(len(i) == outer, re.sub(r"([A-Z])", r"_\1", f).lower()) for i, f in fields]
    found["disconnect"] = {name if top else f"debug_info.{name}" for top, name in snake}
    return found


def reduce(checkout: Path, commit: str) -> dict[str, Any]:
    samples = checkout / "json-logs/samples"
    answers = {method: json.loads((samples / f"api/{method}.json").read_text()) for method in API}
    events = {n: json.loads((samples / f"events/{n}Payload.json").read_text()) for n in EVENTS}
    interactive = samples / "app-backend/interactive-components/BlockActionPayload.json"
    click = json.loads(interactive.read_text())
    shared = shared_parts([*answers.values(), *events.values(), click])
    view = frozenset(OPAQUE - {"view"})
    return {
        "source": "https://github.com/slackapi/java-slack-sdk: json-logs/samples, slack-api-client",
        "licence": "MIT License, Copyright (c) 2020 - Slack Technologies, LLC",
        "commit": commit,
        "made_by": "tests/data/slack/reduce_published.py",
        "api": {
            method: sorted(paths(answer, opaque=view if "views" in method else frozenset(OPAQUE)))
            for method, answer in answers.items()
        },
        "events": {name: sorted(paths(body)) for name, body in events.items()},
        "interactive": {"block_actions": sorted(paths(click))},
        "frames": {kind: sorted(found) for kind, found in frames(checkout).items()},
        "shared": {name: sorted(found) for name, found in shared.items()},
    }


if __name__ == "__main__":
    reduced = reduce(Path(sys.argv[1]), sys.argv[2])
    target = Path(__file__).with_name("published_fields.json")
    target.write_text(json.dumps(reduced, indent=1) + "\n")
