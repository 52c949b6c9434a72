"""The egress proxy between a plain client and a server on loopback that passes for outside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from daemon.egress import carrying, proxy
from daemon.model import Trust
from tests.integration.egress_help import HOST, INNER, Stand, proxied
from tests.integration.gateway_help import Rig, rig, turn


@pytest.fixture
async def gateway() -> AsyncIterator[Rig]:
    async with rig() as built:
        yield built


@pytest.fixture
async def stand(gateway: Rig) -> AsyncIterator[Stand]:
    async with proxied(gateway, more=[f"{INNER}:443", "nowhere.example:443"]) as standing:
        yield standing


async def test_what_is_on_the_list_is_reached_and_recorded(gateway: Rig, stand: Stand) -> None:
    token = gateway.token(turn())
    line, tunnel = await stand.ask(token)
    assert line == "HTTP/1.1 200 Connection established"
    (opened,) = await stand.audit.until("egress.opened")
    assert await tunnel.say(b"hello\n") == b"heard: hello\n"
    tunnel.writer.write_eof()
    assert await tunnel.rest() == b"farewell\n", "the answer still comes behind the client's end"
    (closed,) = await stand.audit.until("egress.closed")
    asked = {"turn": "turn-1", "port": stand.outside.port, "connection": 1}
    entry = f"{HOST}:{stand.outside.port}"
    assert opened.facts == {**asked, "entry": entry}
    assert {**closed.facts, "seconds": 0} == {
        **asked,
        "entry": entry,
        "sent": 6,
        "received": 22,
        "seconds": 0,
        "ended": "closed",
    }
    assert opened.texts == closed.texts == (entry,)
    assert opened.conversation == turn().conversation
    assert b"turn-1" not in stand.metrics.text()
    samples = stand.metrics.registry.get_sample_value
    assert samples("postroom_egress_bytes_total", {"kind": "sent"}) == 6
    assert samples("postroom_egress_bytes_total", {"kind": "received"}) == 22


@pytest.mark.parametrize(
    ("target", "status", "verdict"),
    [
        ("elsewhere.example:443", 403, "not_listed"),
        (f"{HOST}:1", 403, "not_listed"),
        ("127.0.0.1:443", 400, "malformed"),
        (f"{HOST}\0.example.org:443", 400, "malformed"),
        (f"user@{HOST}:443", 400, "malformed"),
        (f"{INNER}:443", 403, "inside"),
        ("nowhere.example:443", 502, "unresolved"),
    ],
)
async def test_what_is_not_is_refused_and_recorded(
    gateway: Rig, stand: Stand, target: str, status: int, verdict: str
) -> None:
    assert await stand.status(gateway.token(turn()), target) == status
    assert stand.count(verdict) == 1
    assert stand.outside.conversations == 0
    if "\0" not in target:  # that is no head at all: whose it is was not read
        (refused,) = await stand.audit.until("egress.refused")
        assert refused.facts["verdict"] == verdict


async def test_only_an_open_turn_s_token_counts(gateway: Rig, stand: Stand) -> None:
    token = gateway.token()
    for unknown in ("", "postroom-cap-made-up", token):
        assert await stand.status(unknown) == 407
    gateway.gateway.open_turn(token, turn())
    assert await stand.status(token) == 200
    await gateway.gateway.close_turn(token)
    assert await stand.status(token) == 407
    gateway.gateway.open_turn(token, turn("turn-2"))
    gateway.gateway.halt(token)
    assert await stand.status(token) == 407


async def test_the_profile_s_own_list_counts(gateway: Rig, stand: Stand) -> None:
    for trust in (Trust.PUBLIC, Trust.OPERATOR):
        assert await stand.status(gateway.token(turn(trust=trust))) == 403


@pytest.mark.parametrize("how", ["closed", "halted", "revoked"])
async def test_with_its_turn_a_connection_ends(gateway: Rig, stand: Stand, how: str) -> None:
    token = gateway.token(turn())
    _, tunnel = await stand.ask(token)
    assert await tunnel.say(b"hello\n") == b"heard: hello\n"
    match how:
        case "closed":
            await gateway.gateway.close_turn(token)
            what = [entry.what for entry in stand.audit.entries]
            assert what == ["egress.opened", "egress.closed"], "before the turn's own end is"
        case "halted":
            gateway.gateway.halt(token)
        case "revoked":
            gateway.gateway.revoke(token)
    assert await tunnel.rest() == b""
    (closed,) = await stand.audit.until("egress.closed")
    assert (closed.facts["ended"], closed.facts["sent"]) == ("cut", 6)


async def test_what_is_cut_off_twice_is_recorded_all_the_same(gateway: Rig, stand: Stand) -> None:
    token = gateway.token(turn())
    _, tunnel = await stand.ask(token)
    await tunnel.say(b"hello\n")
    stand.audit.gate = asyncio.Event()
    gateway.gateway.halt(token)
    async with asyncio.timeout(20):
        await stand.audit.held.wait()
    gateway.gateway.revoke(token)
    stopping = asyncio.create_task(stand.proxy.stop())
    await asyncio.sleep(0)
    stand.audit.gate.set()
    await stopping
    assert [entry.what for entry in stand.audit.entries] == ["egress.opened", "egress.closed"]


async def test_nothing_goes_out_unrecorded(gateway: Rig, stand: Stand) -> None:
    stand.audit.failing.add("egress.opened")
    assert await stand.status(gateway.token(turn())) == 503
    assert stand.count("unrecorded") == 1
    assert stand.count("opened") == 0


@pytest.mark.parametrize(("limit", "most"), [("MOST_SENT", 3), ("MOST_RECEIVED", 12)])
async def test_a_turn_sends_and_receives_so_much_and_no_more(
    gateway: Rig, stand: Stand, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    for module in (carrying, proxy):
        monkeypatch.setattr(module, limit, most)
    token = gateway.token(turn())
    _, tunnel = await stand.ask(token)
    assert await tunnel.say(b"hello\n") == b""
    (closed,) = await stand.audit.until("egress.closed")
    assert closed.facts["ended"] == "spent"
    assert await stand.status(token) == 429, "by no other connection, either"
    assert await stand.status(gateway.token(turn("turn-2"))) == 200


async def test_a_turn_has_so_many_connections_and_no_more(
    gateway: Rig, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "MOST_AT_ONCE", 2)
    token, other = gateway.token(turn()), gateway.token(turn("turn-2"))
    tunnels = [(await stand.ask(token))[1] for _ in range(2)]
    assert await stand.status(token) == 429
    assert await stand.status(other) == 200
    tunnels[0].writer.close()
    await stand.audit.until("egress.closed", 2)
    assert await stand.status(token) == 200

    monkeypatch.setattr(proxy, "MOST_OF_A_TURN", 4)
    refused = len(await stand.audit.until("egress.refused"))
    for _ in range(3):
        assert await stand.status(token) == 429
    assert len(await stand.audit.until("egress.refused")) == refused + 1, "one tells of the rest"
    assert stand.count("spent") == 4


async def test_a_connection_that_is_silent_ends(
    gateway: Rig, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "IDLE_SECONDS", 0.05)
    _, tunnel = await stand.ask(gateway.token(turn()))
    assert await tunnel.rest() == b""
    (closed,) = await stand.audit.until("egress.closed")
    assert closed.facts["ended"] == "idle"


@pytest.mark.parametrize(("ended_by", "leave_seconds"), [("its turn", 600.0), ("time", 0.05)])
async def test_a_client_that_does_not_read_is_not_held_for_ever(
    gateway: Rig,
    stand: Stand,
    monkeypatch: pytest.MonkeyPatch,
    ended_by: str,
    leave_seconds: float,
) -> None:
    monkeypatch.setattr(carrying, "MOST_RECEIVED", 70_000)
    monkeypatch.setattr(proxy, "LEAVE_SECONDS", leave_seconds)
    assert stand.proxy._server
    for listening in stand.proxy._server.sockets:  # what it accepts has as little room
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    token = gateway.token(turn())
    _, tunnel = await stand.ask(token, room=4096)
    tunnel.writer.transport.pause_reading()  # type: ignore[attr-defined]
    line = b"x" * 30_000 + b"\n"
    tunnel.writer.write(3 * line)
    (closed,) = await stand.audit.until("egress.closed")
    assert closed.facts["ended"] == "spent"
    if ended_by == "its turn":
        await gateway.gateway.close_turn(token)
    async with asyncio.timeout(20):
        while stand.proxy.health().numbers["open"]:
            await asyncio.sleep(0.01)
    tunnel.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await tunnel.rest()) < len(line), "what was not read is gone"


async def test_who_asks_for_nothing_is_not_waited_for(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.proxy.port)
    writer.write(b"CONNECT outside.example:443 HTTP/1.1\r\n")
    async with asyncio.timeout(20):
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(1)
    writer.close()


async def test_a_large_answer_comes_whole(gateway: Rig, stand: Stand) -> None:
    _, tunnel = await stand.ask(gateway.token(turn()))
    sent = b"x" * 60_000 + b"\n"
    for _ in range(20):
        tunnel.writer.write(sent)
    tunnel.writer.write_eof()
    assert await tunnel.rest() == (b"heard: " + sent) * 20 + b"farewell\n"


async def test_it_comes_back_at_the_port_that_agents_know(gateway: Rig, stand: Stand) -> None:
    port = stand.proxy.port
    await stand.proxy.stop()
    await stand.proxy.start()
    assert stand.proxy.port == port
    assert await stand.status(gateway.token(turn())) == 200
