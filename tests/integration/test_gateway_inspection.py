"""Large bodies are judged in a process of their own, and keep nobody waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import psutil
import pytest

from daemon.gateway import inspection as inspecting
from daemon.gateway.body import Improper, judge
from daemon.gateway.inspection import HERE, Inspection, Unread
from tests.integration.gateway_help import MODEL, ask, rig, turn


@pytest.fixture
async def inspection() -> AsyncIterator[Inspection]:
    built = Inspection(MODEL)
    yield built
    await built.close()


def children() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children()
        if "body.py" in " ".join(process.cmdline())
    ]


async def test_a_small_body_needs_no_process(inspection: Inspection) -> None:
    data = json.dumps(ask()).encode()
    assert await inspection.judge(data, counts=False) == judge(data, MODEL)
    assert children() == []


async def test_a_large_one_is_judged_alike_and_by_the_same_process(inspection: Inspection) -> None:
    data = json.dumps(ask("x" * HERE)).encode()
    seen = set()
    for _ in range(3):
        assert await inspection.judge(data, counts=False) == judge(data, MODEL)
        seen |= {child.pid for child in children()}
    assert len(seen) == 1
    hostile = json.dumps({**ask("x" * HERE), "mcp_servers": []}).encode()
    with pytest.raises(Improper, match="mcp_servers"):
        await inspection.judge(hostile, counts=False)
    await inspection.close()
    assert children() == []


async def test_one_whose_asker_went_away_is_not_answered_to_the_next(
    inspection: Inspection,
) -> None:
    first = asyncio.create_task(inspection.judge(b"[" * (20 * HERE), counts=False))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    data = json.dumps(ask("y" * HERE)).encode()
    assert (await inspection.judge(data, counts=False)).head == judge(data, MODEL).head


async def test_a_process_that_died_is_replaced(inspection: Inspection) -> None:
    data = json.dumps(ask("z" * HERE)).encode()
    await inspection.judge(data, counts=False)
    (child,) = children()
    child.kill()
    child.wait()
    for _ in range(2):  # it may be found out by the next body, which is then asked for again
        try:
            assert await inspection.judge(data, counts=False) == judge(data, MODEL)
        except Unread:
            continue
        break
    else:
        raise AssertionError("no process came back")


@pytest.mark.parametrize(
    "hostile",
    [b"[" * (32 << 20), b"[]," * (10 << 20), b'{"a":' * (6 << 20), b'"' + b"\\u0041" * (5 << 20)],
    ids=["open", "empty", "deep", "escapes"],
)
async def test_a_hostile_body_is_refused_and_the_loop_goes_on(
    inspection: Inspection, hostile: bytes
) -> None:
    judging = asyncio.create_task(inspection.judge(hostile, counts=False))
    turns = 0
    while not judging.done():
        turns += 1
        await asyncio.sleep(0)
    with pytest.raises(Improper):
        await judging
    assert turns > 20, "read on the loop it would be over in one turn"


async def test_a_large_hostile_request_does_not_pass_the_gateway() -> None:
    async with rig() as world:
        token = world.token(turn())
        big = {**ask("x" * inspecting.HERE), "tools": [{"type": "web_fetch_20250910"}]}
        status, body = await world.say(token, big)
        assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
        assert world.model.journal == []
