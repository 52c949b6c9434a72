"""Who the gateway lets to the model, and with what: tokens, paths, methods, headers, the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.gateway import Outcome, door
from daemon.gateway.rules import PATHS, Endpoint, endpoint
from daemon.gateway.seats import Seats
from tests.integration.gateway_help import KEY, Rig, ask, raw, rig, turn

ERROR_KEYS = {"type", "error"}


@pytest.fixture
async def world() -> AsyncIterator[Rig]:
    async with rig() as built:
        yield built


async def test_a_call_with_an_open_turn_reaches_the_model_with_our_key(world: Rig) -> None:
    token = world.token(turn())
    status, _ = await world.say(token)
    entry = world.model.journal[0]
    assert status == 200
    assert entry.headers["x-api-key"] == KEY
    assert token not in json.dumps(dict(entry.headers))
    assert (entry.path, entry.query) == ("/v1/messages", "beta=true")


async def test_credentials_of_the_client_never_reach_the_model(world: Rig) -> None:
    token = world.token(turn())
    theirs = "sk-ant-of-an-attacker"
    headers = {
        "authorization": f"Bearer {token}",
        "x-api-key": theirs,
        "cookie": f"session={theirs}",
        "proxy-authorization": theirs,
        "x-goog-api-key": theirs,
        "anthropic-organization-id": theirs,
        "x-forwarded-for": theirs,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "files-api-2025-04-14, effort-2025-11-24,mcp-servers-2025-12-04",
    }
    async with world.post(token, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()
    sent = world.model.journal[0].headers
    assert sent["x-api-key"] == KEY
    assert theirs not in json.dumps(dict(sent))
    assert token not in json.dumps(dict(sent))
    assert sent["anthropic-version"] == "2023-06-01"
    assert sent["anthropic-beta"] == "effort-2025-11-24", "no experiment that acts or keeps"
    assert sent["accept-encoding"] == "identity"


async def test_a_token_is_good_for_nothing_without_an_open_turn(world: Rig) -> None:
    never, closed, revoked = world.token(), world.token(turn("a")), world.token(turn("b"))
    await world.gateway.close_turn(closed)
    world.gateway.revoke(revoked)
    world.gateway.open_turn(revoked, turn("c"))
    for token in (never, closed, revoked, "", KEY, "postroom-cap-made-up"):
        status, body = await world.say(token)
        assert status == 403, token
        assert json.loads(body)["error"]["type"] == "permission_error"
    assert world.model.journal == []


async def test_a_token_works_again_for_the_next_turn(world: Rig) -> None:
    token = world.token(turn("first"))
    assert await world.gateway.close_turn(token) is None
    world.gateway.open_turn(token, turn("second"))
    assert (await world.say(token))[0] == 200
    await world.gateway.close_turn(token)
    assert [call.turn for call in world.book.calls] == ["second"]


def test_tokens_are_long_and_never_alike() -> None:
    issued = {Seats().issue() for _ in range(100)}
    assert len(issued) == 100
    assert all(token.startswith("postroom-cap-") and len(token) == 13 + 43 for token in issued)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /v1/messages/ HTTP/1.1", 404),
        ("POST //v1/messages HTTP/1.1", 404),
        ("POST /v1//messages HTTP/1.1", 404),
        ("POST /v1/./messages HTTP/1.1", 404),
        ("POST /v1/../v1/messages HTTP/1.1", 404),
        ("POST /v1/messages/../files HTTP/1.1", 404),
        ("POST /v1/messages%2f..%2ffiles HTTP/1.1", 404),
        ("POST /v1/messages%00 HTTP/1.1", 404),
        ("POST /v1/%256dessages HTTP/1.1", 404),
        ("POST /v1/messages;x HTTP/1.1", 404),
        ("POST /v1/messages/batches HTTP/1.1", 404),
        ("POST /v1/files HTTP/1.1", 404),
        ("POST /v1/complete HTTP/1.1", 404),
        ("POST /api/oauth/claude_cli/create_api_key HTTP/1.1", 404),
        ("POST http://127.0.0.1/v1/messages HTTP/1.1", 404),
        ("POST https://api.anthropic.com/v1/files HTTP/1.1", 404),
        ("GET / HTTP/1.1", 404),
        ("GET /v1/models HTTP/1.1", 404),
        ("GET /v1/messages HTTP/1.1", 405),
        ("PUT /v1/messages HTTP/1.1", 405),
        ("DELETE /v1/messages HTTP/1.1", 405),
        ("OPTIONS /v1/messages HTTP/1.1", 405),
        ("TRACE /v1/messages HTTP/1.1", 405),
        ("CONNECT api.anthropic.com:443 HTTP/1.1", 405),
        ("POST /v1/messages?a=%0d%0ax HTTP/1.1", 200),
        ("POST /v1/messages?a=[1] HTTP/1.1", 404),
        ("POST /v1/%6dessages HTTP/1.1", 200),
        ("POST /v1/messages/count_tokens?beta=true HTTP/1.1", 200),
    ],
)
async def test_only_the_messages_paths_by_post(world: Rig, line: str, status: int) -> None:
    token, body = world.token(turn()), json.dumps(ask(stream=False)).encode()
    head = f"{line}\r\nhost: x\r\nx-api-key: {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = await raw(world.gateway.port, head.encode() + body)
    assert answer.split(b" ")[1] == str(status).encode()
    if status != 200:
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == ERROR_KEYS
        assert world.model.journal == []
    await world.gateway.close_turn(token)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("upgrade: websocket\r\nconnection: upgrade\r\n", 403),
        ("upgrade: h2c\r\nconnection: upgrade\r\n", 403),
        ("content-encoding: gzip\r\n", 415),
        ("content-length: 2\r\n", 400),
        ("transfer-encoding: chunked\r\n", 400),
    ],
)
async def test_odd_headers_are_refused(world: Rig, headers: str, status: int) -> None:
    token, body = world.token(turn()), json.dumps(ask()).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    )
    answer = await raw(world.gateway.port, head.encode() + body)
    assert answer.split(b" ")[1] == str(status).encode()
    assert world.model.journal == []


@settings(max_examples=400)
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "/",
                "v1",
                "messages",
                "count_tokens",
                "..",
                ".",
                "%2e",
                "%2f",
                "%00",
                "?",
                "#",
                "\\",
                "%6d",
                "beta=true",
                "http:",
                "\x00",
                "\udc80",
                "%",
                "%%",
                "/v1/messages",
            ]
        ),
        max_size=8,
    ).map("".join)
)
def test_no_target_leads_anywhere_else(target: str) -> None:
    found = endpoint("POST", target, ())
    if isinstance(found, Endpoint):
        assert found.path in PATHS.values()
        assert all(" " < sign < "\x7f" and sign != "#" for sign in found.target)


async def test_a_request_that_is_too_large_is_refused(world: Rig) -> None:
    token = world.token(turn())
    said = await raw(
        world.gateway.port,
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n"
        f"content-length: {door.MAX_BODY + 1}\r\n\r\n".encode(),
    )
    assert b" 413 " in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "request_too_large"


async def test_a_large_request_passes_whole(world: Rig) -> None:
    token, asked = world.token(turn()), ask("[[say:ok]]" + "x" * (3 << 20))
    assert (await world.say(token, asked))[0] == 200
    assert world.model.journal[0].body == asked


async def test_a_token_has_so_many_calls_at_once_and_no_more(world: Rig) -> None:
    token, other = world.token(turn("a")), world.token(turn("b"))
    gate = world.model.hold("wait")
    answers = [world.say(token, ask("wait [[say:x]]")) for _ in range(door.MAX_CALLS)]
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    await world.model.requests("wait", door.MAX_CALLS)
    async with world.post(token) as answer:
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
    assert (await world.say(other))[0] == 200
    gate.release()
    assert [status for status, _ in await asyncio.gather(*tasks)] == [200] * door.MAX_CALLS


async def test_a_refused_key_is_shown_as_403_and_remembered_once() -> None:
    async with rig(api_key="sk-ant-withdrawn") as world:
        token = world.token(turn())
        for _ in range(3):
            status, body = await world.say(token)
            assert status == 403
            assert json.loads(body)["error"]["message"] == "The model's key was refused."
        health = world.gateway.health()
        assert (health.state, health.detail) == ("fail", "the model's key was refused")
        assert health.ready
        assert world.keys == [True]
        assert set(world.outcomes()) == {Outcome.KEY_REFUSED}


async def test_a_key_that_is_good_again_is_noticed(world: Rig) -> None:
    token = world.token(turn())
    world.model.fail(401)
    assert (await world.say(token))[0] == 403
    assert (await world.say(token))[0] == 200
    assert world.keys == [True, False]
    assert world.gateway.health().state == "pass"


async def test_no_answer_carries_the_key_or_names_us(world: Rig) -> None:
    token = world.token(turn())
    for status in (200, 400, 401, 403, 429, 500, 529):
        if status != 200:
            world.model.fail(status, retry_after=7)
        async with world.post(token) as answer:
            seen = repr(answer.headers) + (await answer.text())
            assert KEY not in seen
            assert "organization" not in seen
            if status in {429, 529}:
                assert answer.headers["retry-after"] == "7"
            if status != 401:
                assert answer.headers["request-id"].startswith("req_")
                assert answer.status == status
