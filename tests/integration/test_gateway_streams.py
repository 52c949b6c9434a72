"""Answers pass unchanged and at once, end when either side ends, and are metered as they pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from daemon.budgets import Limits
from daemon.demo.controls import Fault
from daemon.demo.messages_api import frames, message_body
from daemon.demo.script import Reply
from daemon.errors import LedgerError
from daemon.gateway import ModelGateway, Outcome, Patience, prices
from daemon.gateway.prices import Metered
from daemon.model import Usage
from tests.integration.gateway_help import MODEL, SECONDS, Book, Rig, ask, raw, rig, turn

TEXT = "[[say:" + "many words of an answer " * 40 + "]]"


@pytest.fixture
async def world() -> AsyncIterator[Rig]:
    async with rig() as built:
        yield built


def usage_of(world: Rig, index: int = 0) -> Usage:
    """What the stand-in says the request used."""
    said = world.model.journal[index].usage
    return Usage(
        said["input_tokens"],
        said["output_tokens"],
        said["cache_read_input_tokens"],
        said["cache_creation_input_tokens"],
    )


@pytest.mark.parametrize("stream", [True, False])
async def test_metering_agrees_with_the_model(world: Rig, *, stream: bool) -> None:
    token, body = world.token(turn()), ask(TEXT, stream=stream)
    body["system"] = [{"type": "text", "text": "s" * 400, "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        assert (await world.say(token, body))[0] == 200
    assert await world.gateway.close_turn(token) is None
    first, second = world.book.calls
    assert first.usage == usage_of(world, 0)
    assert first.usage.cache_write > 0
    assert second.usage == usage_of(world, 1)
    assert second.usage.cache_read > 0
    assert first.cost == prices.cost(Metered(MODEL, first.usage)) > 0
    assert (first.model, first.status, first.turn) == (MODEL, 200, "turn-1")
    assert first.booked_on == "slack:T1:U1"
    assert world.outcomes() == [Outcome.OK, Outcome.OK]
    assert not any(seen.estimated for seen in world.observed)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_answer_is_the_models_byte_for_byte(*, stream: bool) -> None:
    """The upstream sends bytes that no parser of ours would write: odd spacing, CRLF, cut UTF-8."""
    pieces = [
        b'event: message_start\r\ndata:{"type":"message_start", "message" : {"usage":{}}}\r\n\r\n',
        b": a comment\n\ndata: \xe2\x82",
        b"\xac\x00\xff\n\n",
        b"event: message_stop\ndata: {}\n\n" + bytes(range(256)) * 300,
    ]
    kind = "text/event-stream" if stream else "application/json"

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": kind, "set-cookie": "a=b"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
        return response

    async with upstream(answer) as url, rig(url=url) as world:
        token = world.token(turn())
        async with world.post(token) as got:
            assert await got.read() == b"".join(pieces)
            assert got.headers["content-type"].startswith(kind)
            assert "set-cookie" not in got.headers
            assert "content-encoding" not in got.headers


async def test_the_first_bytes_pass_before_the_rest_exists(world: Rig) -> None:
    token, gate = world.token(turn()), world.model.hold(where="stream")
    async with world.post(token, ask(TEXT)) as answer:
        assert answer.status == 200
        seen = b""
        async with asyncio.timeout(SECONDS):
            while b"content_block_delta" not in seen:
                seen += await answer.content.readany()
        assert not gate.released
        assert b"message_stop" not in seen
        gate.release()
        assert b"message_stop" in await answer.read()


async def test_headers_pass_before_the_first_byte_of_a_body() -> None:
    opened = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await opened.wait()
        return response

    async with upstream(answer) as url, rig(url=url) as world, asyncio.timeout(SECONDS):
        got = await world.post(world.token(turn()))
        assert got.status == 200
        opened.set()
        await got.read()


async def test_a_client_that_goes_away_ends_the_models_work(world: Rig) -> None:
    token, gate = world.token(turn()), world.model.hold(where="stream")
    answer = await world.post(token, ask(TEXT))
    entry = await gate.arrived()
    answer.close()
    async with asyncio.timeout(SECONDS):
        await entry.ended.wait()
    assert entry.outcome == "cut by the client"
    await world.until(lambda: world.outcomes() == [Outcome.CUT])
    assert not gate.released


async def test_a_client_that_goes_away_before_headers_ends_the_models_work(world: Rig) -> None:
    token, gate = world.token(turn()), world.model.hold(where="headers")
    asking = asyncio.ensure_future(world.say(token))
    entry = await gate.arrived()
    asking.cancel()
    async with asyncio.timeout(SECONDS):
        await entry.ended.wait()
    assert entry.outcome == "cut by the client"
    await world.gateway.close_turn(token)
    (call,) = world.book.calls
    assert (call.status, call.usage.output) == (0, 0)
    assert call.cost > 0, "what is asked for and hung up on is not free"


@pytest.mark.parametrize("how", ["closed", "revoked", "stopped", "halted"])
async def test_closing_a_turn_cuts_its_calls_and_books_what_was_seen(world: Rig, how: str) -> None:
    token, gate = world.token(turn()), world.model.hold(where="stream")
    async with world.post(token, ask(TEXT)) as answer:
        entry = await gate.arrived()
        if how == "closed":
            await world.gateway.close_turn(token)
        elif how == "stopped":
            await world.gateway.stop()
        else:
            (world.gateway.revoke if how == "revoked" else world.gateway.halt)(token)
            await world.until(lambda: bool(world.observed))
            assert (await world.say(token))[0] == 403
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    await world.gateway.stop()
    call = world.book.calls[0]
    expected = usage_of(world)
    assert call.usage.input == expected.input > 0
    assert 0 < call.usage.output < expected.output
    assert call.cost > 0
    assert world.observed[0].outcome is Outcome.CUT
    assert world.observed[0].estimated
    async with asyncio.timeout(SECONDS):
        await entry.ended.wait()
    assert entry.outcome == "cut by the client"


async def test_a_stopped_turn_asks_nothing_more_and_the_next_one_may(world: Rig) -> None:
    token = world.token(turn("first"))
    world.gateway.halt(token)
    status, body = await world.say(token)
    assert (status, json.loads(body)["error"]["message"]) == (
        403,
        "A person has stopped this turn.",
    )
    assert await world.gateway.close_turn(token) is None
    world.gateway.open_turn(token, turn("second"))
    assert (await world.say(token))[0] == 200


async def test_text_that_was_streamed_is_paid_for_though_the_count_never_came() -> None:
    """A client that hangs up just before the end must not have its tokens for nothing."""
    usage = {"input_tokens": 50, "output_tokens": 2500}
    message = message_body(MODEL, Reply("word " * 2000), usage)
    sent = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for frame in frames(message):
            if frame.event == "message_delta":
                break
            await response.write(frame.encode())
        sent.set()
        await asyncio.Event().wait()
        return response

    async with upstream(answer) as url, rig(url=url) as world:
        async with world.post(world.token(turn())) as got:
            await got.content.readuntil(b"content_block_stop")
            await sent.wait()
            got.close()
        await world.until(lambda: bool(world.observed))
        assert world.observed[0].estimated
        assert world.observed[0].usage.input == 50
        assert world.observed[0].usage.output == pytest.approx(2500, rel=0.1)


async def test_a_turn_closed_at_the_last_byte_counts_as_finished() -> None:
    """The CLI closes a turn on the last event, before the connection has ended."""
    held = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        usage = '{"input_tokens": 10, "output_tokens": 20}'
        await response.write(
            f'event: message_delta\ndata: {{"type": "message_delta", "usage": {usage}}}\n\n'
            'event: message_stop\ndata: {"type": "message_stop"}\n\n'.encode()
        )
        await held.wait()
        return response

    async with upstream(answer) as url, rig(url=url) as world:
        token = world.token(turn())
        async with world.post(token) as got:
            await got.content.readuntil(b"message_stop")
            closing = asyncio.ensure_future(world.gateway.close_turn(token))
            await asyncio.sleep(0)
            held.set()
            await got.read()
            await closing
        assert world.outcomes() == [Outcome.OK]
        assert world.book.calls[0].usage == Usage(10, 20)


async def test_closing_a_turn_waits_until_its_calls_are_on_disk() -> None:
    book = Book(gate=asyncio.Event())
    async with rig(book=book) as world:
        token = world.token(turn())
        await world.say(token)
        closing = asyncio.ensure_future(world.gateway.close_turn(token))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not closing.done()
        assert book.gate is not None
        book.gate.set()
        await closing
        assert len(book.calls) == 1


async def test_a_call_that_cannot_be_booked_is_told_to_who_closes_the_turn() -> None:
    async with rig(book=Book(failure=LedgerError("disk full"))) as world:
        token = world.token(turn())
        assert (await world.say(token))[0] == 200
        with pytest.raises(LedgerError):
            await world.gateway.close_turn(token)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.INVALID),
        (403, Outcome.INVALID),
        (404, Outcome.INVALID),
        (413, Outcome.INVALID),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.FAILED),
        (529, Outcome.OVERLOADED),
    ],
)
async def test_errors_of_the_api_pass_and_nothing_is_retried(
    world: Rig, status: int, outcome: Outcome
) -> None:
    token = world.token(turn())
    world.model.fail(status, retry_after=3)
    async with world.post(token) as answer:
        assert answer.status == status
        assert answer.headers["retry-after"] == "3"
        assert (await answer.json())["error"]["message"] == "The stand-in was told to fail."
    assert len(world.model.journal) == 1
    await world.gateway.close_turn(token)
    assert world.outcomes() == [outcome]
    assert [(call.status, call.cost) for call in world.book.calls] == [(status, 0.0)]


@pytest.mark.parametrize("kind", ["cut", "malformed"])
async def test_an_answer_that_breaks_off_does_so_for_the_client(world: Rig, kind: str) -> None:
    token = world.token(turn())
    world.model.faults.add(Fault(kind))  # type: ignore[arg-type]  # one of its kinds
    async with world.post(token, ask(TEXT)) as answer:
        assert answer.status == 200
        if kind == "cut":
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            assert b"message_stop" not in await answer.read()
    await world.gateway.close_turn(token)
    assert world.outcomes() == [Outcome.BROKEN]
    assert world.book.calls[0].usage.input == usage_of(world).input
    assert world.gateway.health().state == "warn"


async def test_a_silent_api_is_given_up_on() -> None:
    hasty = Patience(idle_seconds=0.2, whole_seconds=0.2)
    async with rig(patience=hasty) as world:
        token = world.token(turn())
        world.model.faults.add(Fault("hang"))
        status, body = await world.say(token)
        assert (status, json.loads(body)["error"]["type"]) == (504, "timeout_error")
        world.model.faults.add(Fault("stall"))
        async with world.post(token, ask(TEXT)) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        assert world.outcomes() == [Outcome.TIMEOUT, Outcome.TIMEOUT]


async def test_an_api_that_cannot_be_reached_is_a_502_and_a_warning() -> None:
    async with rig(url="http://127.0.0.1:1") as world:
        status, body = await world.say(world.token(turn()))
        assert (status, json.loads(body)["error"]["type"]) == (502, "api_error")
        health = world.gateway.health()
        assert (health.state, health.ready) == ("warn", True)
        assert health.numbers["last_failure_outcome"] == "unreachable"


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with upstream(answer) as url, rig(url=url) as world:
        assert (await world.say(world.token(turn())))[0] == 502
        assert asked == ["/v1/messages"]


async def test_an_api_url_may_have_a_path_of_its_own() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        return web.json_response({})

    async with upstream(answer) as url, rig(url=url + "/anthropic/") as world:
        await world.say(world.token(turn()))
        assert asked == ["/anthropic/v1/messages?beta=true"]


async def test_http_1_0_and_connections_that_stay_open_are_served(world: Rig) -> None:
    token, body = world.token(turn()), json.dumps(ask()).encode()
    head = (
        f"POST /v1/messages HTTP/1.0\r\nx-api-key: {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    assert b" 200 " in await raw(world.gateway.port, head.encode() + body)
    for _ in range(3):
        assert (await world.say(token))[0] == 200


async def test_a_service_that_starts_again_has_its_port_and_tokens(world: Rig) -> None:
    token, port = world.token(turn()), world.gateway.port
    await world.gateway.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await world.say(token)
    serving = asyncio.create_task(world.gateway.run())
    await world.gateway.start()
    assert (await world.say(token))[0] == 200
    assert world.gateway.port == port
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_port_that_is_taken_is_an_error_at_start(world: Rig) -> None:
    book = Book()
    second = ModelGateway(
        dialect=world.dialect,
        clock=world.clock,
        model="claude-sonnet-5",
        limits=Limits(),
        books=book,
        observe=lambda _: None,
        nearing=lambda _: None,
        channel_of=lambda _: "",
        port=world.gateway.port,
    )
    with pytest.raises(OSError, match="address already in use"):
        await second.start()


class upstream:  # noqa: N801 - reads as what it is where it is used
    """A server that answers every request with one handler; gives its URL."""

    def __init__(self, handler: object) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]  # a coroutine
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
