"""What a scripted model reads in a request, what it may answer, and the directives of tests.

A script is a function `(body) -> Reply` of the request's parsed JSON. `directed` is the one for
tests: it does what the text of the *last* user prompt says, and nothing that history says.

    [[say:TEXT]]                   the answer's text; several are joined by new lines
    [[tool:NAME {"key": "value"}]] one tool call a request, in order; the next one, and at last the
                                   text, follow when the result of the one before has arrived
    [[slow:SECONDS]]               the text takes that long to stream
    [[echo]]                       the answer is the prompt itself, without its directives, so that
                                   a checker sees which messages were in the turn and their order

Without `say` and `echo` the results of the tools are the text. A prompt is one text block: where
the CLI puts several beside each other (a prompt again after a death), only the last one counts.
`<system-reminder>` parts, messages of the system role and notes of an interrupt are skipped.
A prompt of a later attempt (`AGAIN`) goes on where the one before stopped, as a real model does:
tools that had a result then are not called again. One that says that a call is approved
(`APPROVED`) makes that call, and tells what came of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)
WORKDIR = re.compile(r"Primary working directory: (.+)")
AGAIN = re.compile(r"\AYour work on the messages below was interrupted.*?\n\n", re.DOTALL)
"""How `daemon/prompts.py` begins the prompt of a later attempt; what follows is as before."""
APPROVED = re.compile(r"This call of yours is approved, once: (\w+) (?=\{)")
"""How `daemon/approvals.py` says so; the call's input follows as JSON."""
INTERRUPTED = re.compile(r"\[Request interrupted by user[^\]]*\]")
"""The CLI's own note behind a turn that was interrupted: nobody's prompt."""
DIRECTIVE = re.compile(r"\[\[(say|tool|slow|echo)(?::|(?=]]))")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One `tool_use` block: the tool's name and its input, a JSON object."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model; with `calls` it stops for tools, without it ends the turn."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    delay: float = 0.0
    """Seconds before the first byte."""
    spread: float = 0.0
    """Seconds that the text takes to stream, spread evenly over its pieces."""
    cut: bool = False
    """It ended where the request's `max_tokens` did."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks: the last prompt, and the results of tools that came after it."""

    texts: tuple[str, ...]
    """The user texts that stand beside each other at the end; the last one is the prompt."""
    results: tuple[ToolResult, ...]
    tools: frozenset[str]
    workdir: str | None

    @property
    def prompt(self) -> str:
        return self.texts[-1] if self.texts else ""


Script = Callable[[Mapping[str, Any]], Reply]


def read_ask(body: Mapping[str, Any]) -> Ask:
    """Read a Messages API request. Unknown kinds of blocks are skipped."""
    texts: list[str] = []
    results: list[ToolResult] = []
    before: list[ToolResult] = []  # of earlier attempts at the same prompt
    workdir = None
    run_open = False  # the block before was a user text, too
    for role, block in _blocks(body):
        raw = str(block.get("text", "")) if block.get("type") == "text" else ""
        workdir = found[1].strip() if (found := WORKDIR.search(raw)) else workdir
        text = clean(raw)
        if INTERRUPTED.fullmatch(text):
            continue
        if role == "user" and text:
            before = _done_before(text, texts, [*before, *results])
            if not run_open:
                texts, results = [], []
            texts.append(text)
            run_open = True
        elif role == "user" and block.get("type") == "tool_result":
            results.append(ToolResult(_result_text(block), bool(block.get("is_error"))))
            run_open = False
        elif role == "assistant":
            run_open = False
    tools = frozenset(str(tool.get("name")) for tool in body.get("tools") or ())
    return Ask(tuple(texts), (*before, *results), tools, workdir)


def _done_before(text: str, texts: list[str], results: list[ToolResult]) -> list[ToolResult]:
    """The results that a prompt of a later attempt builds on; none for any other prompt."""
    core = AGAIN.sub("", text)
    if core == text or core not in {AGAIN.sub("", earlier) for earlier in texts}:
        return []
    return [result for result in results if not result.is_error]


def clean(text: str) -> str:
    """The text without the reminders that the CLI puts into it."""
    return REMINDER.sub("", text).strip()


def directed(body: Mapping[str, Any]) -> Reply:
    """The script of tests: do what the last prompt's directives say; else say `ok`."""
    ask = read_ask(body)
    return follow(ask) or Reply("ok")


def follow(ask: Ask) -> Reply | None:
    """What the prompt's directives ask for next; None when it has none."""
    if (call := _approved(ask.prompt)) is not None:
        results = "\n".join(result.text for result in ask.results)
        return Reply(results) if ask.results else Reply(calls=(call,))
    found = list(_directives(ask.prompt))
    if not found:
        return None
    calls = [value for name, value in found if name == "tool" and isinstance(value, ToolCall)]
    if len(ask.results) < len(calls):
        return Reply(calls=(calls[len(ask.results)],))
    says = [str(value) for name, value in found if name == "say"]
    if any(name == "echo" for name, _ in found):
        says.append(without_directives(ask.prompt))
    text = "\n".join(says) if says else "\n".join(result.text for result in ask.results)
    slow = sum(value for _, value in found if isinstance(value, float))
    return Reply(text or "ok", spread=slow)


def _approved(prompt: str) -> ToolCall | None:
    """The call that a person's word lets through, where the prompt is that word."""
    found = APPROVED.search(prompt)
    if found is None:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(prompt, found.end())
    except ValueError:
        return None
    return ToolCall(found[1], value)


def without_directives(text: str) -> str:
    """The text with every directive cut out, and what is left of its lines otherwise as it was."""
    kept, at = [], 0
    for begin, end, _, _ in _scan(text):
        kept.append(text[at:begin])
        at = end
    return "".join([*kept, text[at:]]).strip()


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for message in body.get("messages") or ():
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks or ():
            yield str(message.get("role")), block


def _result_text(block: Mapping[str, Any]) -> str:
    content = block.get("content")
    parts = [content] if isinstance(content, str) else [p.get("text", "") for p in content or ()]
    return clean("\n".join(part for part in parts if part))


def _directives(text: str) -> Iterator[tuple[str, str | float | ToolCall]]:
    for _, _, name, value in _scan(text):
        yield name, value


def _scan(text: str) -> Iterator[tuple[int, int, str, str | float | ToolCall]]:
    """(begin, end, name, value) of each well-formed directive; others are left as text."""
    at = 0
    while found := DIRECTIVE.search(text, at):
        at = found.end()
        name = found[1]
        value, end = _tool(text, at) if name == "tool" else _plain(name, text, at)
        if value is not None:
            at = end
            yield found.start(), end, name, value


def _plain(name: str, text: str, at: int) -> tuple[str | float | None, int]:
    end = text.find("]]", at)
    if end < 0:
        return None, at
    value = text[at:end]
    if name != "slow":
        return value, end + 2
    try:
        return float(value), end + 2
    except ValueError:
        return None, at


def _tool(text: str, at: int) -> tuple[ToolCall | None, int]:
    """A tool's name, a space and a JSON object, which may itself contain `]]`."""
    name, _, rest = text[at:].partition(" ")
    begin = len(text) - len(rest)
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except ValueError:
        return None, at
    if not isinstance(value, dict) or not text.startswith("]]", end):
        return None, at
    return ToolCall(name, value), end + 2
