"""The shapes of Anthropic's Messages API that the stand-in speaks: frames, bodies, errors, usage.

Source: https://docs.anthropic.com/en/api/messages, .../messages-streaming and .../errors; the
requests are those of the pinned CLI. Pure functions; no I/O.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from daemon.demo.script import Reply

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
PIECE = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event; `paced` ones share the time that a slow answer takes."""

    event: str
    data: Mapping[str, Any]
    paced: bool = False

    def encode(self) -> bytes:
        data = json.dumps({"type": self.event, **self.data})
        return f"event: {self.event}\ndata: {data}\n\n".encode()


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


def complaint(body: Any) -> str | None:
    """Why Anthropic would answer this request with a 400, or None; the few rules that matter here.

    Every `tool_use` needs its `tool_result` in the next message: a history that a crash left
    without one is refused, as by the real API.
    """
    if not isinstance(body, dict):
        return "The request body is not a JSON object."
    for key in ("model", "max_tokens", "messages"):
        if key not in body:
            return f"{key}: Field required"
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        blocks = content if isinstance(content, list) else []
        if not content or not all(isinstance(block, dict) for block in blocks):
            return f"messages.{index}: content must be a non-empty text or list of blocks"
    return _unpaired([message for message in messages if message.get("role") != "system"])


def _unpaired(messages: list[dict[str, Any]]) -> str | None:
    """The complaint of a tool call without its result in the next message, or of the reverse."""
    calls: set[str] = set()
    for index, message in enumerate(messages):
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = {b.get("tool_use_id") for b in blocks if b.get("type") == "tool_result"}
        if calls - results:
            return f"messages.{index}: `tool_use` ids were found without `tool_result` blocks"
        if results - calls:
            return f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks"
        calls = {b.get("id", "") for b in blocks if b.get("type") == "tool_use"}
    return None


def pieces(text: str) -> list[str]:
    """The text in the parts that stream one by one: about a word each, nothing lost."""
    return PIECE.findall(text) or ([text] if text else [])


def content_blocks(reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    for call in reply.calls:
        block_id = f"toolu_{uuid.uuid4().hex[:24]}"
        blocks.append(
            {"type": "tool_use", "id": block_id, "name": call.name, "input": dict(call.input)}
        )
    return blocks


def cut_off(reply: Reply, max_tokens: int) -> Reply:
    """The reply as far as `max_tokens` of output go; tools that come behind that are not called."""
    text = reply.text[: 4 * max_tokens]
    if count_tokens(reply.text + _inputs(reply)) <= max_tokens:
        return reply
    return replace(reply, text=text, calls=(), cut=True)


def message_body(model: str, reply: Reply, usage: Mapping[str, int]) -> dict[str, Any]:
    """A whole `Message`, as the non-streaming form returns it."""
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content_blocks(reply),
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": dict(usage),
    }


def _stop_reason(reply: Reply) -> str:
    if reply.cut:
        return "max_tokens"
    return "tool_use" if reply.calls else "end_turn"


def _inputs(reply: Reply) -> str:
    return json.dumps([dict(call.input) for call in reply.calls]) if reply.calls else ""


def frames(message: Mapping[str, Any]) -> Iterator[Frame]:
    """The events that stream this message, in the API's order."""
    usage = message["usage"]
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield Frame("message_start", {"message": start})
    yield Frame("ping", {})
    for index, block in enumerate(message["content"]):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        yield Frame("content_block_start", {"index": index, "content_block": empty})
        for delta in _deltas(block):
            yield Frame("content_block_delta", {"index": index, "delta": delta}, paced=True)
        yield Frame("content_block_stop", {"index": index})
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield Frame("message_delta", {"delta": stop, "usage": dict(usage)})
    yield Frame("message_stop", {})


def _deltas(block: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if block["type"] == "text":
        for piece in pieces(block["text"]):
            yield {"type": "text_delta", "text": piece}
        return
    whole = json.dumps(block["input"])
    for at in range(0, len(whole), 40):
        yield {"type": "input_json_delta", "partial_json": whole[at : at + 40]}


class PromptCache:
    """Which prefixes of requests were seen, so that usage looks as with Anthropic's prompt cache.

    Four characters count as one token. Nothing expires.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def usage(self, body: Mapping[str, Any], reply: Reply) -> dict[str, int]:
        """The usage of one call, and remember its prefixes."""
        parts = [{key: body.get(key) for key in ("model", "system", "tools")}, *body["messages"]]
        digest, total, known = b"", 0, 0
        marked = False
        for part in parts:
            text = json.dumps(_unmarked(part))
            marked = marked or '"cache_control"' in json.dumps(part)
            digest = hashlib.blake2b(digest + text.encode(), digest_size=16).digest()
            total += count_tokens(text)
            known = total if digest in self._seen else known
            self._seen.add(digest)
        fresh = min(3, total - known) if marked else total
        return {
            "input_tokens": fresh,
            "cache_creation_input_tokens": total - known - fresh if marked else 0,
            "cache_read_input_tokens": known if marked else 0,
            "output_tokens": count_tokens(reply.text + _inputs(reply)),
        }


def count_tokens(text: str) -> int:
    return max(1, len(text) // 4)


def _unmarked(value: Any) -> Any:
    """The JSON value without cache marks, as these move from request to request."""
    if isinstance(value, dict):
        return {k: _unmarked(v) for k, v in value.items() if k != "cache_control"}
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    return value
