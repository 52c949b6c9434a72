"""What of a request's body goes up, and what would be a way out for whoever holds a token."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.gateway import body as bodies
from daemon.gateway.body import HELPER, MAX_OUTPUT, Improper, judge, may_ask_for, serve

MODEL = "claude-sonnet-5"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def request(**keys: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 1000, "messages": HELLO, **keys}).encode()


def content(*blocks: Any) -> bytes:
    return request(messages=[{"role": "user", "content": list(blocks)}])


def test_what_agents_send_goes_up_as_it_was_meant() -> None:
    keys: dict[str, Any] = {
        "stream": True,
        "system": [{"type": "text", "text": "Be brief. Grüße", "cache_control": {"type": "x"}}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}, {"type": "custom"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi \ud83d\ude00"}, IMAGE]},
            {"role": "assistant", "content": [{"type": "tool_use", "input": {"type": "url"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]},
        ],
        "thinking": {"type": "adaptive"},
        "metadata": {"user_id": "u"},
    }
    judged = judge(request(**keys), MODEL)
    sent = json.loads(judged.body(1000))
    assert sent == json.loads(request(**keys))
    assert (judged.asked.model, judged.asked.streams) == (MODEL, True)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no JSON"),
        (b"[]", "not an object"),
        (b'{"model": ', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"model": "claude-sonnet-5", "max_tokens": 1e999, "messages": []}', "max_tokens"),
        (request(temperature=float("nan")), "no JSON"),
        (request(mcp_servers=[{"type": "url", "url": "https://x"}]), "mcp_servers"),
        (request(container="c"), "container"),
        (request(speed="fast"), "speed"),
        (request(betas=["files-api"]), "betas"),
        (request(model="claude-opus-5"), "model"),
        (request(model=7), "model"),
        (request(model=None), "model"),
        (request(stream="true"), "stream"),
        (request(max_tokens=0), "max_tokens"),
        (request(max_tokens=True), "max_tokens"),
        (request(max_tokens="9"), "max_tokens"),
        (request(messages={}), "messages"),
        (request(messages=["hello"]), "messages"),
        (request(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), "tools"),
        (request(tools=[{"type": "code_execution_20250825"}]), "tools"),
        (request(tools=[{"type": "mcp_toolset"}]), "tools"),
        (request(tools={}), "tools"),
        (content({"type": "image", "source": {"type": "url", "url": "https://x/?d"}}), "images"),
        (content({"type": "document", "source": {"type": "file", "file_id": "f"}}), "images"),
        (content({"type": "image"}), "images"),
        (content({"type": "container_upload", "file_id": "f"}), "this type"),
        (content({"type": "server_tool_use", "name": "web_fetch"}), "this type"),
        (content({"text": "x"}), "this type"),
        (content({"type": ["text"]}), "this type"),
        (content("text"), "content"),
        (
            content({"type": "tool_result", "content": [{"type": "image", "source": {}}]}),
            "images",
        ),
        (
            content(
                {
                    "type": "document",
                    "source": {
                        "type": "content",
                        "content": [{"type": "image", "source": {"type": "url"}}],
                    },
                }
            ),
            "images",
        ),
        (request(system=[{"type": "image", "source": {"type": "url"}}]), "images"),
    ],
)
def test_what_would_be_a_way_out_does_not_go_up(data: bytes, told: str) -> None:
    with pytest.raises(Improper, match=told):
        judge(data, MODEL)


def test_a_key_that_stands_twice_goes_up_once_as_it_was_judged() -> None:
    twice = b'{"messages": [], "model": "claude-opus-5", "model": "%s", "max_tokens": 5}'
    judged = judge(twice % MODEL.encode(), MODEL)
    assert judged.body(5).count(b'"model"') == 1
    assert b"opus" not in judged.body(5)
    with pytest.raises(Improper, match="model"):
        judge(
            b'{"messages": [], "model": "claude-sonnet-5", "mod\\u0065l": "x", "max_tokens": 5}',
            MODEL,
        )


def test_half_a_letter_goes_up_as_it_came() -> None:
    judged = judge(request(messages=[{"role": "user", "content": "\ud800 half"}]), MODEL)
    assert json.loads(judged.body(9))["messages"][0]["content"] == "\ud800 half"


@pytest.mark.parametrize(
    ("asked", "own", "may"),
    [
        ("claude-sonnet-5", "claude-sonnet-5", True),
        ("claude-sonnet-5-20260601", "claude-sonnet-5", True),
        ("claude-sonnet-5[1m]", "claude-sonnet-5", True),
        ("claude-sonnet-5", "claude-sonnet-5[1m]", True),
        (f"{HELPER}-20251001", "claude-sonnet-5", True),
        ("claude-sonnet-5-5", "claude-sonnet-5", False),
        ("claude-opus-5", "claude-sonnet-5", False),
        ("claude-opus-5-5", "opus", True),
        ("claude-sonnet-5", "opus", False),
        ("vendor/model-1", "vendor/model-1", True),
        ("", "claude-sonnet-5", False),
    ],
)
def test_an_agent_asks_for_its_own_model_and_the_clis_helper(
    asked: str, own: str, may: bool
) -> None:
    assert may_ask_for(asked, own) is may


def test_output_is_bounded_and_thinking_has_its_room() -> None:
    assert judge(request(max_tokens=500_000), MODEL).asked.max_tokens == MAX_OUTPUT
    asked = judge(request(max_tokens=9), MODEL).asked
    assert (asked.max_tokens, asked.least_output) == (9, 9)
    thinking = {"type": "enabled", "budget_tokens": 8000}
    assert judge(request(max_tokens=16_000, thinking=thinking), MODEL).asked.least_output == 9024
    assert judge(request(max_tokens=16_000), MODEL).asked.least_output == 1024


def test_an_image_counts_by_itself_and_not_by_its_bytes() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 300_000}}
    assert judge(content(image), MODEL).asked.prompt_tokens < 6000
    text = {"type": "text", "text": "A" * 300_000}
    assert judge(content(text), MODEL).asked.prompt_tokens > 99_000


def test_counting_tokens_needs_no_bound() -> None:
    data = json.dumps({"model": MODEL, "messages": HELLO}).encode()
    judged = judge(data, MODEL, counts=True)
    assert json.loads(judged.body(None)) == {"model": MODEL, "messages": HELLO}
    with pytest.raises(Improper, match="tools"):
        judge(request(tools=[{"type": "web_search_20250305"}]), MODEL, counts=True)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
KEYS = st.sampled_from([*sorted(bodies._KEYS), "mcp_servers", "container", "x"])


@settings(max_examples=50)
@given(st.dictionaries(KEYS, JSONS, max_size=8) | JSONS | st.binary(max_size=60))
def test_any_body_is_judged_without_breaking(document: Any) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    try:
        judged = judge(data, MODEL)
    except Improper:
        return
    sent = json.loads(judged.body(judged.asked.max_tokens))
    assert set(sent) <= bodies._KEYS
    assert may_ask_for(sent["model"], MODEL)


def test_what_an_upstream_does_not_take_is_left_out_and_what_it_wants_is_added() -> None:
    judged = judge(request(stream=True), MODEL, without={"model", "stream"})
    assert (judged.asked.model, judged.asked.streams) == (MODEL, True)
    sent = json.loads(judged.body(9, anthropic_version="v", anthropic_beta=["b"]))
    assert not sent.keys() & {"model", "stream"}
    assert (sent["max_tokens"], sent["anthropic_version"]) == (9, "v")
    assert sent["anthropic_beta"] == ["b"]
    added = {"max_tokens", "anthropic_version", "anthropic_beta"}
    assert json.loads(judged.body(None)).keys() == sent.keys() - added


def test_as_a_program_it_answers_each_body_in_turn() -> None:
    good, bad = request(stream=True), request(container="c")
    ask = {"model": MODEL, "counts": False, "without": ["stream"]}
    asked = b"".join(
        json.dumps({"size": len(data), **ask}).encode() + b"\n" + data for data in (good, bad, good)
    )
    answers = io.BytesIO()
    serve(io.BytesIO(asked), answers)
    answers.seek(0)
    for data in (good, bad, good):
        told = json.loads(answers.readline())
        head = answers.read(told["size"])
        if data is bad:
            assert "container" in told["improper"]
        else:
            assert head == judge(data, MODEL, without=["stream"]).head
            assert told["asked"]["streams"] is True, "though it does not stand in what goes up"
