"""What the CLI's messages say of one prompt: SDK messages in, agent events out. No I/O.

The signals are measured (CLI 2.1.330): `init` naming our uuid is the start; `idle` without it
means that the CLI takes the uuid for done; a result belongs to the prompt whose uuid it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from daemon.model import Usage
from daemon.ports import (
    AgentEvent,
    AlreadySeen,
    ModelAnswered,
    ModelAsked,
    ModelRetry,
    TextDelta,
    ToolUsed,
    TurnEnded,
    TurnStarted,
)

MOST_UUIDS_IN_A_RESULT = 64  # a full list may leave ours out (SDK, ResultMessage)
_UNUSABLE = frozenset({400, 413})
_ABORTED = frozenset({"aborted_streaming", "aborted_tools"})


def session_state(message: Message) -> str | None:
    """`running`, `idle` or `requires_action`, where the message says so."""
    if isinstance(message, SystemMessage) and message.subtype == "session_state_changed":
        return str(message.data.get("state"))
    return None


class TurnView:
    """One prompt as seen in the stream. `quiet` is true after an `idle` that settles nothing yet:
    the reader then waits a bounded time and calls `give_up`.
    """

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self.started = False
        self.ended = False
        self.quiet = False
        self._streamed = False
        self._said = ""
        self._tools_open: set[str] = set()

    def feed(self, message: Message) -> tuple[AgentEvent, ...]:
        """The events of the next message; none of them after the one that ends the turn."""
        match message:
            case SystemMessage():
                return self._on_system(message)
            case StreamEvent(parent_tool_use_id=None):
                return self._on_stream(message.event)
            case AssistantMessage(parent_tool_use_id=None):
                return self._on_assistant(message)
            case UserMessage(parent_tool_use_id=None, content=list(blocks)):
                return self._on_results(blocks)
            case ResultMessage() if self._is_ours(message):
                self.ended = True
                return (turn_ended(message, self._said),)
        return ()

    def give_up(self, *, interrupted: bool) -> AgentEvent | None:
        """What the silence after `idle` means; None: the turn had started and has no result."""
        if self.started:
            return None
        self.ended = True
        return TurnEnded("", "interrupted") if interrupted else AlreadySeen()

    def _on_system(self, message: SystemMessage) -> tuple[AgentEvent, ...]:
        if (state := session_state(message)) is not None:
            self.quiet = state == "idle"
        elif message.subtype == "init" and self._uuid in _strings(message.data):
            self.started, self.quiet = True, False
            return (TurnStarted(),)
        elif message.subtype == "api_retry":
            status = message.data.get("error_status")
            return (ModelRetry(status if isinstance(status, int) else None),)
        return ()

    def _on_stream(self, event: Mapping[str, Any]) -> tuple[AgentEvent, ...]:
        if event.get("type") == "message_start" and self.started:
            return (ModelAnswered(),)
        delta = event.get("delta")
        if event.get("type") != "content_block_delta" or not isinstance(delta, dict):
            return ()
        if delta.get("type") != "text_delta" or not self.started:
            return ()
        self._streamed = True
        return (TextDelta(clean(str(delta.get("text", "")))),)

    def _on_assistant(self, message: AssistantMessage) -> tuple[AgentEvent, ...]:
        if message.error is not None or not self.started:
            return ()  # the CLI's own words on an API error: the result has the status
        events: list[AgentEvent] = []
        for block in message.content:
            if isinstance(block, TextBlock):
                self._said = clean(block.text)
                if not self._streamed:  # an answer that came without streaming
                    events.append(TextDelta(self._said))
                self._streamed = False
            elif isinstance(block, ToolUseBlock):
                self._tools_open.add(block.id)
                events.append(ToolUsed(block.name, block.id))
        return tuple(events)

    def _on_results(self, blocks: list[Any]) -> tuple[AgentEvent, ...]:
        ended = {block.tool_use_id for block in blocks if isinstance(block, ToolResultBlock)}
        was_open, self._tools_open = self._tools_open, self._tools_open - ended
        return (ModelAsked(),) if was_open and not self._tools_open else ()

    def _is_ours(self, result: ResultMessage) -> bool:
        named = {*(result.user_message_uuids or ()), result.user_message_uuid} - {None}
        if self._uuid in named:
            return True
        if not self.started:
            return False
        # Some errors and interrupted turns name nobody; a turn that the CLI began itself has a
        # foreign origin.
        by_us = result.origin is None or result.origin["kind"] == "human"
        return by_us and (not named or len(named) >= MOST_UUIDS_IN_A_RESULT)


def turn_ended(result: ResultMessage, said: str) -> TurnEnded:
    """A result as the port puts it. `subtype` "success" may well be an error (measured: API)."""
    error, status = _error(result), result.api_error_status
    return TurnEnded(
        text=clean(result.result or "") if error is None else said,
        error=error,
        status=status if error in {"api", "unusable"} else None,
        detail="" if error is None else _detail(result),
        usage=_usage(result.usage or {}),
        sdk_cost=result.total_cost_usd,
    )


def clean(text: str) -> str:
    """Without lone surrogates: they are legal in JSON and in no text that is stored or sent."""
    return text.encode(errors="replace").decode()


def _error(result: ResultMessage) -> str | None:
    if result.terminal_reason in _ABORTED:
        return "interrupted"
    if result.subtype == "error_max_turns":
        return "max_turns"
    if not result.is_error and result.subtype == "success":
        return None
    if result.api_error_status in _UNUSABLE:
        return "unusable"
    if result.api_error_status is not None or result.terminal_reason == "api_error":
        return "api"
    return "other"


def _detail(result: ResultMessage) -> str:
    words = result.result or "; ".join(result.errors or ())
    return clean(f"{result.subtype} ({result.terminal_reason}): {words}"[:500])


def _usage(counted: Mapping[str, Any]) -> Usage:
    def tokens(name: str) -> int:
        value = counted.get(name)
        return value if isinstance(value, int) else 0

    return Usage(
        input=tokens("input_tokens"),
        output=tokens("output_tokens"),
        cache_read=tokens("cache_read_input_tokens"),
        cache_write=tokens("cache_creation_input_tokens"),
    )


def _strings(data: Mapping[str, Any]) -> frozenset[str]:
    uuids = data.get("user_message_uuids")
    return frozenset(filter(_is_text, uuids)) if isinstance(uuids, list) else frozenset()


def _is_text(value: object) -> bool:
    return isinstance(value, str)
