from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.approvals import Approvals
from daemon.budgets import Raise
from daemon.errors import LedgerError
from daemon.ledger import read_only
from daemon.model import Audited, JsonObject, Turn, TurnState
from daemon.ports import Ending, ToolAnswer, ToolSpec
from daemon.tools import StagingGate, all_tools
from tests.flow import LABEL, RecordingConnector
from tests.ledgers import Stage, new_stage


class Mute(RecordingConnector):
    """A connector of another channel, with a tool of its own."""

    tools = (ToolSpec("archive", "Archive it.", {"type": "object"}, "Recorded."), LABEL)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with new_stage(tmp_path) as stage:
        yield stage


@dataclass
class Servers:
    """The port `ToolServers`: answers what it is told to, and keeps what it was asked."""

    answer: ToolAnswer = field(default_factory=lambda: ToolAnswer("done"))
    calls: list[tuple[str, str, JsonObject]] = field(default_factory=list)

    def specs(self, server: str) -> dict[str, ToolSpec]:
        return {}

    async def call(self, server: str, tool: str, arguments: JsonObject) -> ToolAnswer:
        self.calls.append((server, tool, arguments))
        return self.answer


def gate(stage: Stage, servers: Servers | None = None) -> StagingGate:
    connectors = {"chat": RecordingConnector("chat"), "mail": Mute("mail")}
    approvals = Approvals(
        ledger=stage.ledger,
        clock=stage.clock,
        connectors=connectors,
        wake=lambda _conversation: None,
        wake_delivery=lambda _connector: None,
        tell=nobody,
        say=quietly,
        raised=nothing,
        wait=0.0,
    )
    return StagingGate(stage.ledger, connectors, approvals, servers or Servers())


async def quietly(turn: Turn, text: str, key: str) -> None:
    return None


async def nothing(more: Raise) -> None:
    return None


async def nobody(key: str, text: str, aside: str = "") -> None:
    return None


async def staged(stage: Stage) -> int:
    return (await stage.ledger.counts()).outbox["staged"]


async def test_a_call_is_on_disk_before_it_returns(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    assert await opened.call("label", {"name": "spam"}, "tool-1") == LABEL.answer
    await stage.reopen()
    assert await staged(stage) == 1


async def test_the_same_call_twice_is_one_effect(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    for tool_use_id in ("tool-1", "tool-1", "tool-2"):
        await opened.call("label", {"name": "spam"}, tool_use_id)
    assert await staged(stage) == 2


async def test_outside_of_a_turn_nothing_can_be_done(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    assert "right now" in await opened.call("label", {"name": "x"}, "tool-1")
    assert not (await opened.ask("Bash", {"command": "ls"})).granted
    opened.open(turn, 1)
    opened.close()
    assert "right now" in await opened.call("label", {"name": "x"}, "tool-1")
    assert await staged(stage) == 0


async def test_what_cannot_be_put_before_a_person_is_not_done(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE))
    refused = await opened.ask("Bash", {"command": "ls"})
    assert not refused.granted
    assert "LedgerError" not in refused.reason
    assert (await stage.ledger.counts()).approvals == 0


async def test_a_tool_of_another_channel_is_refused(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    for tool in ("archive", "nonsense"):
        assert "does not belong" in await opened.call(tool, {}, "tool-1")
    assert await staged(stage) == 0


async def test_a_connectors_refusal_is_what_the_model_reads(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    assert await opened.call("label", {"refuse": True}, "tool-1") == "No."
    assert await staged(stage) == 0


async def test_what_cannot_be_recorded_is_not_told_as_done(stage: Stage) -> None:
    turn, opened = await stage.running(), gate(stage)
    opened.open(turn, 1)
    await stage.ledger.end_turn(turn.id, Ending(TurnState.STOPPED))
    answer = await opened.call("label", {"name": "spam"}, "tool-1")
    assert answer != LABEL.answer
    assert "LedgerError" not in answer


def test_every_tool_is_offered_once_in_a_fixed_order(stage: Stage) -> None:
    connectors = {"b": Mute("b"), "a": RecordingConnector("a")}
    assert [spec.name for spec in all_tools(connectors)] == ["archive", "label"]


async def audit_of(stage: Stage) -> list[dict[str, Any]]:
    reading = await read_only(stage.root)
    try:
        return [dict(record) for record in await reading.audit_after(0, 1000)]
    finally:
        await reading.close()


async def test_a_server_s_tool_is_recorded_before_it_is_used_and_after(stage: Stage) -> None:
    turn, servers = await stage.running(), Servers(ToolAnswer("there is none", failed=True))
    opened = gate(stage, servers)
    opened.open(turn, 1)
    answer = await opened.use("notes", "find", {"text": "a secret wish"}, "tool-1")
    assert answer == ToolAnswer("there is none", failed=True)
    assert servers.calls == [("notes", "find", {"text": "a secret wish"})]
    records = [record for record in await audit_of(stage) if record["what"].startswith("tool.")]
    named = {"turn": turn.id, "attempt": 1, "tool": "mcp__notes__find", "call": "tool-1"}
    assert [(record["what"], record["facts"]) for record in records] == [
        ("tool.called", named),
        ("tool.answered", {**named, "failed": True}),
    ]
    assert "a secret wish" not in str(records)


async def test_outside_a_turn_no_server_is_asked(stage: Stage) -> None:
    servers = Servers()
    closed = gate(stage, servers)
    assert (await closed.use("notes", "add", {}, "tool-1")).failed
    assert servers.calls == []


async def test_what_cannot_be_recorded_is_not_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(entry: Audited) -> None:
        raise LedgerError("the disk is full")

    turn, servers = await stage.running(), Servers()
    opened = gate(stage, servers)
    opened.open(turn, 1)
    monkeypatch.setattr(stage.ledger, "audit", full)
    assert (await opened.use("notes", "add", {}, "tool-1")).failed
    assert servers.calls == []
