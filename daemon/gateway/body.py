"""What a request asks of the model, and whether it may: its body, judged before it goes up. Pure.

An agent's shell holds the token, too, so a body may be anything: one that has the API fetch an
address, run code or start tools of its own would be a way out. What goes up is written anew from
what was read here, so that nothing can mean one thing to us and another to the API. Shapes:
https://platform.claude.com/docs/en/api/messages.

Standard library only: `inspection.py` runs this file as a program for large bodies.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

MAX_OUTPUT = 32_000  # tokens of one answer; agents are told to ask for no more (options.py)
LEAST_OUTPUT = 1024  # an answer that is cut shorter is worth nothing
IMAGE_TOKENS = 5000  # the API scales larger images down (.../build-with-claude/vision)
BYTES_PER_TOKEN = 3  # of a prompt, for the most that it can cost; English has four and more
MOST_PARTS = 2_000_000  # of a body, at most: lists, objects and what stands in them
HELPER = "claude-haiku-4-5"
"""What the CLI asks on its own account, where it asks anything: the cheapest."""

# What the pinned CLI sends (tests/integration/test_gateway_cli.py); all else is not let through.
_KEYS = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "metadata",
        "max_tokens",
        "thinking",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "stream",
        "context_management",
        "output_config",
        "output_format",
        "cache_control",
    }
)
_BLOCKS = frozenset(
    {
        "text",
        "image",
        "document",
        "search_result",
        "tool_use",
        "tool_result",
        "tool_reference",
        "thinking",
        "redacted_thinking",
    }
)
_INLINE = frozenset({"base64", "text", "content"})  # not "url" or "file", which the API fetches

# What may follow a model's name: a date or "latest", and the mark of the long context window.
_ENDING = re.compile(r"(-[0-9]{8}|-latest)?(\[1m\])?\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for. `size` in bytes; the rest in tokens. `least_output` is the shortest
    answer that is worth its prompt; `prompt_tokens` is more than the prompt will be counted as.
    """

    model: str
    size: int
    prompt_tokens: int
    max_tokens: int
    least_output: int
    streams: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A body that may go up; `head` is all of it but what is added to it, and its last brace."""

    asked: Asked
    head: bytes

    def body(self, max_tokens: int | None, **more: object) -> bytes:
        """As it goes up, with so many tokens of output at most (None: where none are written), and
        what else its upstream wants.
        """
        limit = {} if max_tokens is None else {"max_tokens": max_tokens}
        added = json.dumps({**limit, **more}, separators=(",", ":"))[1:].encode()
        return self.head + (b"," if added != b"}" else b"") + added


class Improper(ValueError):
    """Why a body does not go up: a sentence for whoever sent it."""


def judge(
    body: bytes, model: str, *, counts: bool = False, without: Collection[str] = ()
) -> Judged:
    """Judge a body of the messages path, or of the one that only `counts` tokens, from an agent
    that was started with this model. It goes up `without` what its upstream does not take. Raises
    Improper.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_PARTS:
        raise Improper("The body has too many parts.")
    try:
        document = json.loads(body)
        judged = _judge(document, len(body), model, counts=counts)
        for key in without:
            document.pop(key, None)
        head = _written(document)
    except Improper:
        raise
    except (ValueError, RecursionError, MemoryError):
        raise Improper("The body is no JSON that can be read.") from None
    return Judged(judged, head[:-1])


def _judge(document: Any, size: int, model: str, *, counts: bool) -> Asked:
    """Takes `max_tokens` out of the document."""
    if not isinstance(document, dict):
        raise Improper("The body is not an object.")
    if odd := [key for key in document if key not in _KEYS]:
        raise Improper(f"{odd[0][:40]}: this gateway does not let it through.")
    asked = document.get("model")
    if not isinstance(asked, str) or not may_ask_for(asked, model):
        raise Improper("model: this agent may not ask for it.")
    streams = document.get("stream", False)
    if not isinstance(streams, bool):
        raise Improper("stream: write true or false.")
    _judge_tools(document.get("tools", []))
    images, inline = 0, 0
    for block in _blocks(document):
        kind, data = _judge_block(block)
        if kind == "image":
            images, inline = images + 1, inline + data
    most = 0 if counts else _whole(document.pop("max_tokens", None), "max_tokens")
    most = min(most, MAX_OUTPUT)
    return Asked(
        model=asked,
        size=size,
        prompt_tokens=(size - inline) // BYTES_PER_TOKEN + images * IMAGE_TOKENS,
        max_tokens=most,
        least_output=min(most, LEAST_OUTPUT + _thinking(document.get("thinking"))),
        streams=streams,
    )


def _written(document: Any) -> bytes:
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a tool's output may have it
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def may_ask_for(asked: str, model: str) -> bool:
    """Whether an agent with this model may ask for that one. An alias of the CLI's ("sonnet")
    stands for whatever the CLI makes of it.
    """
    name, own = _ENDING.sub("", asked), _ENDING.sub("", model)
    if name in {own, HELPER}:
        return True
    alias = own.isalpha() and own.islower()
    return alias and own in name.split("-")


def _judge_tools(tools: Any) -> None:
    """Tools that the client runs have no type, or "custom"; the API's own have another."""
    for tool in _objects(tools, "tools"):
        kind = tool.get("type", "custom")
        if kind not in {"custom", None}:
            raise Improper("tools: the API's own tools are not granted.")


def _blocks(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every content block, those within tool results and documents among them."""
    messages = _objects(document.get("messages"), "messages")
    waiting = [document.get("system"), *(message.get("content") for message in messages)]
    while waiting:
        content = waiting.pop()
        if content is None or isinstance(content, str):
            continue
        for block in _objects(content, "content"):
            yield block
            waiting.append(block.get("content"))
            source = block.get("source")
            if isinstance(source, dict):
                waiting.append(source.get("content"))


def _judge_block(block: Mapping[str, Any]) -> tuple[str, int]:
    """The block's type, and how many bytes of data stand in it."""
    kind, source = block.get("type"), block.get("source")
    if not isinstance(kind, str) or kind not in _BLOCKS:
        raise Improper("content: a block of this type is not let through.")
    if kind in {"image", "document"}:
        if not isinstance(source, dict) or source.get("type") not in _INLINE:
            raise Improper("content: images and documents stand in the request itself.")
        data = source.get("data")
        return kind, len(data) if isinstance(data, str) else 0
    return kind, 0


def _thinking(thinking: Any) -> int:
    """The tokens of output that are for thinking alone: the API wants `max_tokens` above them."""
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        return _whole(thinking.get("budget_tokens"), "thinking.budget_tokens")
    return 0


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Improper(f"{name}: write a whole number above nought.")
    return value


def _objects(value: Any, name: str) -> Sequence[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Improper(f"{name}: write a list of objects.")
    return value


# --- as a program: bodies on stdin, what became of them on stdout ---------------------------------

MEMORY = 2 << 30  # bytes of address space; a body of MOST_PARTS takes a few hundred megabytes


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Each request is a line of JSON and a body, and so is each answer; the line tells the size."""
    while line := requests.readline():
        told = json.loads(line)
        body = requests.read(told["size"])
        try:
            judged = judge(body, told["model"], counts=told["counts"], without=told["without"])
        except Improper as error:
            head, answer = b"", {"size": 0, "improper": str(error)}
        else:
            asked = judged.asked
            head, answer = judged.head, {name: getattr(asked, name) for name in Asked.__slots__}
            answer = {"size": len(head), "asked": answer}
        answers.write(json.dumps(answer).encode() + b"\n" + head)
        answers.flush()
        del body, head


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    serve(sys.stdin.buffer, sys.stdout.buffer)
