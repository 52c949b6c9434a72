"""Commands that read the daemon, or ask it for something, over its own HTTP door."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from daemon.config import Config
from daemon.errors import NotReachable, PostroomError
from daemon.model import ConversationId

NOT_FOUND = 1


def show_status(config: Config, *, as_json: bool) -> int:
    """Print `/api/v1/status`; 1 when the daemon is not ready."""
    status = _get(config, "status")
    if status is None:
        raise NotReachable(_down(config))
    if as_json:
        typer.echo(json.dumps(status, indent=2))
        return 0 if status["ready"] else 1
    state = "ready" if status["ready"] else "not ready"
    typer.echo(f"{state}; {status['status']}; up {status['uptime_seconds']:.0f} s")
    table = Table(box=None, pad_edge=False)
    for head in ("part", "state", "numbers", "detail"):
        table.add_column(head)
    for name, part in status["components"].items():
        numbers = " ".join(f"{k}={v}" for k, v in part["numbers"].items() if v is not None)
        table.add_row(name, part["state"], numbers, part["detail"])
    Console().print(table)
    for notice in status.get("notices", ()):
        typer.echo(f"notice: {notice}")
    return 0 if status["ready"] else 1


def show_trace(config: Config, any_id: str, *, as_json: bool) -> int:
    story = _get(config, f"trace/{quote(any_id, safe='')}")
    if story is None:
        story = _offline(config, "trace", any_id)
    if not story or "error" in story:
        raise _NothingKnown(f"nothing is known by the id {any_id!r}; see `postroom conversations`")
    typer.echo(json.dumps(story, indent=2, default=str)) if as_json else _print_story(story)
    return 0


def show_dead(config: Config, *, as_json: bool) -> int:
    answer = _get(config, "dead")
    letters = answer["dead"] if answer is not None else _offline(config, "dead")
    if as_json:
        typer.echo(json.dumps({"dead": letters}, indent=2, default=str))
        return 0
    if not letters:
        typer.echo("no dead letters")
        return 0
    _rows(letters, ("id", "kind", "connector", "at", "reason"))
    typer.echo("\npostroom dead show ID | retry ID | discard ID")
    return 0


def show_conversations(config: Config, *, as_json: bool) -> int:
    answer = _get(config, "conversations")
    rows = answer["conversations"] if answer else _offline(config, "conversations", 200)
    if as_json:
        typer.echo(json.dumps({"conversations": rows}, indent=2, default=str))
    elif rows:
        _rows(rows, tuple(rows[0]))
    else:
        typer.echo("no conversations yet")
    return 0


def show_conversation(config: Config, conversation: str, *, as_json: bool) -> int:
    story = _get(config, f"conversations/{quote(conversation, safe='')}")
    if story is None:
        story = _offline(config, "conversation", ConversationId(conversation))
    if not story or "error" in story:
        raise _NothingKnown(f"there is no conversation {conversation!r}")
    typer.echo(json.dumps(story, indent=2, default=str)) if as_json else _print_story(story)
    return 0


def ask(config: Config, table: str, any_id: str, action: str) -> None:
    """POST to the running daemon. Raises NotReachable when it is down."""
    answer = _call(config, f"{table}/{quote(any_id, safe='')}/{action}", post=True)
    if answer is None:
        raise NotReachable(_down(config))
    if answer.get("done") is False or "error" in answer:
        raise _NothingKnown(f"{any_id}: there was nothing to {action}")
    typer.echo(f"{action}: done")


class _NothingKnown(PostroomError):
    exit_code = NOT_FOUND


def _get(config: Config, path: str) -> dict[str, Any] | None:
    return _call(config, path, post=False)


def _call(config: Config, path: str, *, post: bool) -> dict[str, Any] | None:
    """The daemon's JSON answer; None when nothing listens there."""
    request = urllib.request.Request(
        f"http://{config.daemon.listen}/api/v1/{path}",
        data=b"" if post else None,
        headers={"X-Postroom": "1"},
        method="POST" if post else "GET",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            try:
                answer = json.load(error)
            except ValueError:
                raise NotReachable(f"{config.daemon.listen} is not a Postroom daemon") from error
            return answer
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def _offline(config: Config, operation: str, *arguments: object) -> Any:
    """Read the ledger itself when no daemon runs."""
    from daemon.ledger import read_only

    async def read() -> Any:
        ledger = await read_only(config.daemon.data_dir)
        try:
            return await getattr(ledger, operation)(*arguments)
        finally:
            await ledger.close()

    if not (config.daemon.data_dir / "ledger.db").exists():
        raise NotReachable(_down(config))
    return asyncio.run(read())


def _down(config: Config) -> str:
    return f"no daemon answers on {config.daemon.listen}; start it with `postroom run`"


def _rows(rows: Any, columns: tuple[str, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and value > 1e9:
        return _when(value)
    return str(value)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _print_story(story: Mapping[str, Any], indent: str = "") -> None:
    """Nested values as indented lines; times readable."""
    for key, value in story.items():
        if isinstance(value, Mapping):
            typer.echo(f"{indent}{key}:")
            _print_story(value, indent + "  ")
        elif isinstance(value, list | tuple):
            typer.echo(f"{indent}{key}:" + ("" if value else " -"))
            for item in value:
                if isinstance(item, Mapping):
                    line = "  ".join(f"{k}={_cell(v)}" for k, v in item.items() if v is not None)
                    typer.echo(f"{indent}  - {line}")
                else:
                    typer.echo(f"{indent}  - {item}")
        else:
            typer.echo(f"{indent}{key}: {_cell(value)}")
