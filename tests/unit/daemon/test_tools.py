from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.approvals import Approvals
from daemon.budgets import Raise
from daemon.model import Turn, TurnState
from daemon.ports import Ending, ToolSpec
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


def gate(stage: Stage) -> StagingGate:
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
    return StagingGate(stage.ledger, connectors, approvals)


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
