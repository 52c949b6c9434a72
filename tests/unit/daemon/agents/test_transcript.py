"""What a transcript is taken to say, also when it is torn, hostile or not what it seems."""

from __future__ import annotations

import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from daemon.agents import transcript
from daemon.agents.transcript import TranscriptFile, read_fate
from daemon.agents.workspaces import make_workspace
from daemon.ports import PromptFate

OURS, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
ABSENT, UNANSWERED = PromptFate(present=False), PromptFate(present=True)

Entry = dict[str, Any]


def prompt(uid: str = OURS) -> Entry:
    return {"type": "user", "uuid": uid, "message": {"role": "user", "content": "hello"}}


def said(*texts: str, stop: str | None = "end_turn", id_: str = "msg_1", **more: Any) -> Entry:
    content = [{"type": "text", "text": text} for text in texts]
    message = {"id": id_, "model": "claude", "stop_reason": stop, "content": content}
    return {"type": "assistant", "uuid": str(uuid.uuid4()), "message": message, **more}


def synthetic(text: str, **more: Any) -> Entry:
    entry = said(text, stop="stop_sequence", **more)
    entry["message"]["model"] = "<synthetic>"
    return entry


def call(id_: str, name: str = "Bash") -> Entry:
    entry = said(stop="tool_use", id_=f"msg_{id_}")
    entry["message"]["content"] = [{"type": "tool_use", "id": id_, "name": name, "input": {}}]
    return entry


def result(id_: str, text: str = "done", *, is_error: bool = False) -> Entry:
    block: Entry = {"type": "tool_result", "tool_use_id": id_, "content": text}
    if is_error:
        block["is_error"] = True
    return {"type": "user", "uuid": str(uuid.uuid4()), "message": {"content": [block]}}


NOTE: Entry = {
    "type": "user",
    "uuid": str(uuid.uuid4()),
    "message": {"content": [{"type": "text", "text": "[Request interrupted by user]"}]},
}
NOISE: list[Entry] = [
    {"type": "queue-operation", "operation": "enqueue", "content": "hello"},
    {"type": "attachment", "uuid": "a", "attachment": {"type": "environment"}},
    {"type": "system", "subtype": "api_error", "level": "error"},
    {"type": "last-prompt", "lastPrompt": OURS},
]


def fate(*entries: Entry | bytes, uid: str = OURS) -> PromptFate:
    lines = [e if isinstance(e, bytes) else json.dumps(e).encode() + b"\n" for e in entries]
    with Path(os.devnull).open("rb"):  # a real file's descriptor is not needed: sizes are
        return read_fate(Bytes(b"".join(lines)), uid)


class Bytes(io.BytesIO):
    """A file in memory whose size can be asked for by its descriptor."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._descriptor = os.memfd_create("transcript")
        os.truncate(self._descriptor, len(content))

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)
