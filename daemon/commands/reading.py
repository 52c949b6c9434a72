"""Commands that read the daemon, or ask it for something."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import typer

from daemon.commands import asking, telling
from daemon.config import Config
from daemon.errors import NotDone, NotReachable
from daemon.model import ConversationId

SHOWN = 200


def check_alive(config: Config) -> int:
    """For a container's health command: 0 while the daemon lives. Says nothing; that Slack, a
    mailbox or the model is away does not count, as a restart would mend none of it.
    """
    return 0 if asking.alive(config) else 1


def show_status(config: Config, *, as_json: bool) -> int:
    """1 when the daemon is not ready."""
    told = asking.get(config, "status")
    if told is None:
        raise NotReachable(asking.down(config))
    _print(told, telling.status(told), as_json=as_json)
    return 0 if told["ready"] else 1


def show_trace(config: Config, any_id: str, *, as_json: bool) -> int:
    told: Any = asking.get(config, "trace", any_id)
    if told is None:
        told = asking.from_ledger(config, lambda ledger: ledger.trace(any_id))
    if told is None or "error" in told:
        raise NotDone(
            f"nothing is known by the id {any_id!r}; `postroom conversations list` shows what is"
        )
    _print(told, telling.story(told, time.time()), as_json=as_json)
    return 0


def show_dead(config: Config, *, as_json: bool) -> int:
    told = asking.get(config, "dead")
    letters: Any = told["dead"] if told else asking.from_ledger(config, lambda it: it.dead())
    lines: Iterable[str] = ["no dead letters"]
    if letters:
        hint = ["", "next: postroom dead show ID, then retry ID or discard ID"]
        lines = [*telling.dead_letters(letters, time.time()), *hint]
    _print({"dead": letters}, lines, as_json=as_json)
    return 0


def show_conversations(config: Config, *, as_json: bool) -> int:
    told = asking.get(config, "conversations")
    rows: Any = (
        told["conversations"]
        if told
        else asking.from_ledger(config, lambda ledger: ledger.conversations(SHOWN))
    )
    lines = telling.conversations(rows, time.time()) if rows else ["no conversations yet"]
    _print({"conversations": rows}, lines, as_json=as_json)
    return 0


def show_conversation(config: Config, conversation: str, *, as_json: bool) -> int:
    """Texts are read from the ledger, never over HTTP: whoever may read the data directory may."""
    id_ = ConversationId(conversation)
    about: Any = asking.from_ledger(config, lambda ledger: ledger.conversation(id_))
    if about is None:
        raise NotDone(
            f"there is no conversation {conversation!r}; `postroom conversations list` shows all"
        )
    said: Any = asking.from_ledger(config, lambda ledger: ledger.talk(id_, SHOWN))
    _print({**about, "said": said}, telling.conversation(about, said), as_json=as_json)
    return 0


def show_approvals(config: Config, *, as_json: bool) -> int:
    """Inputs are read from the ledger, as texts are."""
    waiting: Any = asking.from_ledger(config, lambda ledger: ledger.approvals())
    lines: Iterable[str] = ["nothing waits for a person's word"]
    if waiting:
        hint = ["", "next: postroom approvals approve ID, or deny ID"]
        lines = [*telling.approvals(waiting, time.time()), *hint]
    _print({"approvals": waiting}, lines, as_json=as_json)
    return 0


def ask(config: Config, table: str, any_id: str, action: str) -> None:
    """Raises NotReachable when the daemon is down."""
    told = asking.post(config, table, any_id, action)
    if told is None:
        raise NotReachable(asking.down(config))
    if told.get("done") is False or "error" in told:
        raise NotDone(f"{any_id}: {told.get('told') or f'there is nothing to {action}'}")
    typer.echo(f"{any_id}: {_DONE[action]}".format(**told))


_DONE = {
    "retry": "will be tried again",
    "discard": "closed",
    "stop": "stopped",
    "erase": "erased, with {erased} workspaces",
    "approve": "approved, for this once",
    "deny": "denied",
}


def _print(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
        return
    for line in lines:
        typer.echo(line)
