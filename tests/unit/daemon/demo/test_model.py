"""The stand-in of the Messages API: what it answers, how it fails, and what its journal says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemon.demo.model import StandInModel
from daemon.demo.script import Reply, directed


@pytest.fixture
async def model() -> AsyncIterator[StandInModel]:
    async with StandInModel(directed) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def request_body(*messages: Mapping[str, Any] | str, **more: Any) -> dict[str, Any]:
    """A request; a bare string is a user message."""
    turns = [{"role": "user", "content": m} if isinstance(m, str) else dict(m) for m in messages]
    return {"model": "claude-x", "max_tokens": 900, "messages": turns, "stream": True, **more}


def events(raw: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for frame in raw.split("\n\n")[:-1]:
        event, data = frame.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def text_of(raw: str) -> str:
    return "".join(
        data["delta"].get("text", "")
        for name, data in events(raw)
        if name.endswith("_delta") and name.startswith("content")
    )


async def post(
    http: aiohttp.ClientSession, model: StandInModel, body: Any, **headers: str
) -> tuple[aiohttp.ClientResponse, str]:
    async with http.post(f"{model.url}/v1/messages?beta=true", json=body, headers=headers) as got:
        return got, await got.text()


async def test_an_answer_streams_in_the_order_of_the_api(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    answer, raw = await post(http, model, request_body("[[say:two words]]"))
    assert answer.status == 200
    assert answer.content_type == "text/event-stream"
    assert answer.headers["request-id"].startswith("req_")
    assert [name for name, _ in events(raw)] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert text_of(raw) == "two words"
    assert all(data["type"] == name for name, data in events(raw))
    [entry] = model.journal
    assert (entry.path, entry.query, entry.outcome) == ("/v1/messages", "beta=true", "finished")


async def test_without_stream_the_answer_is_one_message(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    _, raw = await post(http, model, request_body("[[say:plain]]", stream=False))
    message = json.loads(raw)
    assert message["content"] == [{"type": "text", "text": "plain"}]
    assert (message["role"], message["stop_reason"]) == ("assistant", "end_turn")


async def test_a_tool_call_streams_its_input_in_parts(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    command = "echo " + "long " * 30 + "]]"
    prompt = f"[[tool:Bash {json.dumps({'command': command})}]]"
    _, raw = await post(http, model, request_body(prompt))
    deltas = [data["delta"] for name, data in events(raw) if name == "content_block_delta"]
    assert len(deltas) > 1
    assert json.loads("".join(delta["partial_json"] for delta in deltas)) == {"command": command}
    starts = [data["content_block"] for name, data in events(raw) if name == "content_block_start"]
    assert (starts[0]["name"], starts[0]["input"]) == ("Bash", {})
    [stop] = [data for name, data in events(raw) if name == "message_delta"]
    assert stop["delta"]["stop_reason"] == "tool_use"


async def test_usage_shows_what_was_in_the_prompt_cache(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "words " * 400, **mark}]
    first = {"role": "user", "content": [{"type": "text", "text": "one", **mark}]}
    await post(http, model, request_body(first, system=system))
    unmarked = {"role": "user", "content": [{"type": "text", "text": "one"}]}
    said = {"role": "assistant", "content": "ok"}
    later = {"role": "user", "content": [{"type": "text", "text": "two", **mark}]}
    await post(http, model, request_body(unmarked, said, later, system=system))
    before, after = (entry.usage for entry in model.journal)
    assert before["cache_read_input_tokens"] == 0
    assert before["cache_creation_input_tokens"] > 500
    assert after["cache_read_input_tokens"] > 500
    assert 0 < after["cache_creation_input_tokens"] < 50


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
async def test_an_error_has_anthropics_body_and_lasts_as_long_as_told(
    model: StandInModel, http: aiohttp.ClientSession, status: int, kind: str
) -> None:
    model.fail(status, times=2, retry_after=7)
    for _ in range(2):
        answer, raw = await post(http, model, request_body("hello"))
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert json.loads(raw)["error"]["type"] == kind
    answer, _ = await post(http, model, request_body("hello"))
    assert answer.status == 200
    assert [e.outcome for e in model.journal] == [f"status {status}"] * 2 + ["finished"]


async def test_a_fault_for_a_text_leaves_other_requests_alone(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    model.fail(529, times=None, text="unlucky")
    assert [
        (await post(http, model, request_body(text)))[0].status
        for text in ("unlucky", "lucky", "unlucky")
    ] == [529, 200, 529]
    model.clear()
    assert (await post(http, model, request_body("unlucky")))[0].status == 200


async def test_a_fault_may_wait_for_the_result_of_a_tool(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    model.fail(529, tool_results=1)
    asked = 'look [[tool:Bash {"command": "ls"}]]'
    answer, _ = await post(http, model, request_body(asked))
    assert answer.status == 200
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "nothing"}
    told = (
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    )
    answer, _ = await post(http, model, request_body(asked, *told))
    assert answer.status == 529


async def test_a_history_with_a_call_that_has_no_result_is_refused(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
    body = request_body("hello", {"role": "assistant", "content": [call]}, "and now?")
    answer, raw = await post(http, model, body)
    assert answer.status == 400
    assert "tool_result" in raw


async def test_another_key_than_the_real_one_is_refused(http: aiohttp.ClientSession) -> None:
    async with StandInModel(directed, api_key="real") as model:
        refused, _ = await post(http, model, request_body("hello"), **{"x-api-key": "token"})
        taken, _ = await post(http, model, request_body("hello"), **{"x-api-key": "real"})
    assert (refused.status, taken.status) == (401, 200)


async def test_a_gate_holds_a_request_before_its_headers(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    gate = model.hold("held")
    asking = asyncio.create_task(post(http, model, request_body("held")))
    entry = await gate.arrived()
    assert (entry.outcome, asking.done()) == ("open", False)
    assert (await post(http, model, request_body("another")))[0].status == 200
    gate.release()
    assert (await asking)[0].status == 200
    assert (await post(http, model, request_body("held")))[0].status == 200


async def test_a_client_that_leaves_in_the_stream_is_in_the_journal(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    gate = model.hold("held", where="stream")
    answer = await http.post(f"{model.url}/v1/messages", json=request_body("[[say:held on]]"))
    entry = await gate.arrived()
    assert b"message_start" in await answer.content.readany()
    answer.close()
    await asyncio.wait_for(entry.ended.wait(), 10)
    assert entry.outcome == "cut by the client"


async def test_a_cut_stream_breaks_off(model: StandInModel, http: aiohttp.ClientSession) -> None:
    await control(http, model, fault={"kind": "cut"})
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(http, model, request_body("hello"))
    assert model.journal[0].outcome == "cut by the model"


async def test_a_malformed_stream_holds_what_is_no_json(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    await control(http, model, fault={"kind": "malformed"})
    _, raw = await post(http, model, request_body("hello"))
    with pytest.raises(json.JSONDecodeError):
        events(raw)
    assert model.journal[0].outcome == "malformed"


ODD = [{"role": "user", "content": ["x"]}]


@pytest.mark.parametrize(
    "body",
    [[], {}, {"messages": "x"}, request_body(messages=["x"]), request_body(messages=ODD)],
)
async def test_an_unusable_request_is_a_400(
    model: StandInModel, http: aiohttp.ClientSession, body: Any
) -> None:
    answer, raw = await post(http, model, body)
    assert answer.status == 400
    assert json.loads(raw)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["hang", "stall"])
async def test_what_hangs_ends_when_faults_are_cleared(
    model: StandInModel, http: aiohttp.ClientSession, kind: str
) -> None:
    await control(http, model, fault={"kind": kind})
    asking = asyncio.create_task(post(http, model, request_body("hello")))
    [entry] = await model.requests("hello")
    assert not entry.ended.is_set()
    await model.faults.stuck()
    await control(http, model, clear=True)
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert entry.outcome == "cut by the model"


async def test_a_checker_can_hold_and_read_over_http(
    model: StandInModel, http: aiohttp.ClientSession
) -> None:
    gate = (await control(http, model, hold={"text": "held"}))["gate"]
    asking = asyncio.create_task(post(http, model, request_body("held")))
    assert (await control(http, model, **{"await": gate}))["number"] == 1
    await control(http, model, release=gate)
    await asking
    async with http.get(f"{model.url}/_/journal?bodies=1") as got:
        [seen] = (await got.json())["requests"]
    assert (seen["texts"], seen["outcome"]) == (["held"], "finished")
    assert seen["body"]["model"] == "claude-x"


async def test_a_slow_answer_takes_its_time(http: aiohttp.ClientSession) -> None:
    async with StandInModel(lambda _: Reply("a b c d", spread=0.2)) as model:
        begin = asyncio.get_running_loop().time()
        _, raw = await post(http, model, request_body("hello"))
    assert asyncio.get_running_loop().time() - begin >= 0.19
    assert text_of(raw) == "a b c d"


async def test_as_a_process_it_appends_its_journal_to_a_file(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    journal = tmp_path / "journal.jsonl"
    argv = [sys.executable, "-m", "daemon.demo.model", "--journal", str(journal)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        url = (await process.stdout.readline()).decode().strip()
        async with http.post(f"{url}/v1/messages", json=request_body("hello")) as got:
            assert "Hello!" in text_of(await got.text())
    finally:
        process.terminate()
        assert await process.wait() == 0
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["request", "end"]
    assert lines[0]["texts"] == ["hello"]
    assert lines[1]["outcome"] == "finished"
    assert lines[0]["at"] <= lines[1]["at"]


async def control(http: aiohttp.ClientSession, model: StandInModel, **told: Any) -> dict[str, Any]:
    async with http.post(f"{model.url}/_/control", json=told) as got:
        assert got.status == 200
        said: dict[str, Any] = await got.json()
        return said
