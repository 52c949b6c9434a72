"""The demo's agent, on prompts as the daemon writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daemon.demo.desk import LABEL, MAILBOX, script
from daemon.demo.script import Reply, ToolCall
from daemon.model import (
    ConversationId,
    Message,
    MessageId,
    Priority,
    Sender,
    StoredMessage,
    Trust,
    Turn,
    TurnId,
    Workspace,
)
from daemon.prompts import prompt_text


def prompt(*said: tuple[str, str], connector: str = "slack", attempt: int = 1) -> str:
    """What the daemon sends for a turn of these (name, text)."""
    messages = tuple(
        StoredMessage(
            MessageId(f"msg-{number}"),
            Message(
                connector=connector,
                outside_id=str(number),
                conversation=ConversationId("c"),
                sender=Sender(f"slack:T1:U{number}", name, Trust.MEMBER),
                text=text,
                sent_at=1_700_000_000.0,
                priority=Priority.CHAT,
                target={},
            ),
            1_700_000_000.0,
        )
        for number, (name, text) in enumerate(said)
    )
    turn = Turn(
        TurnId("turn-1"),
        ConversationId("c"),
        connector,
        Trust.MEMBER,
        Workspace("ws-1", Path("/nowhere"), "session"),
        messages,
        1_700_000_000.0,
    )
    return prompt_text(turn, attempt)


def asked(text: str, *more: Any, tools: tuple[str, ...] = (LABEL,)) -> dict[str, Any]:
    first = {"role": "user", "content": text}
    return {"messages": [first, *more], "tools": [{"name": name} for name in tools]}


def labelled(text: str) -> dict[str, Any]:
    done = {"type": "tool_result", "tool_use_id": "t", "content": "It will be there."}
    return asked(text, {"role": "assistant", "content": "x"}, {"role": "user", "content": [done]})


def test_everybody_in_a_turn_is_answered_by_name() -> None:
    text = prompt(("Bea Member", "when are you open?"), ("Chidi Member", "on Saturday, too?"))
    reply = script(asked(text))
    assert reply.text.startswith("Bea, Chidi: We are open Monday to Friday")
    assert not reply.calls


def test_a_later_attempt_is_answered_alike() -> None:
    text = prompt(("Bea Member", "when are you open?"), attempt=2)
    assert script(asked(text)).text.startswith("Bea: We are open")


def test_a_mail_gets_its_label_first_and_then_its_answer() -> None:
    text = prompt(("Ann", "May I have the invoice again?"), connector=MAILBOX)
    assert script(asked(text)) == Reply(calls=(ToolCall(LABEL, {"label": "invoice"}),))
    assert script(labelled(text)).text.startswith("Ann: Invoices go out by mail")


def test_a_strangers_mail_for_which_there_is_no_tool_is_only_answered() -> None:
    text = prompt(("Sam", "How long does shipping take?"), connector=MAILBOX)
    reply = script(asked(text, tools=()))
    assert not reply.calls
    assert reply.text.startswith("Sam: Orders leave the same day")
