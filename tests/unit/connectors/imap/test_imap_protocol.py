"""The table of measured faults in docs/mail.md, row by row, against a scripted server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from aioimaplib import aioimaplib as lib
from hypothesis import given
from hypothesis import strategies as st

from connectors.imap import protocol as hardened
from connectors.imap.fetched import read_fetches
from connectors.imap.protocol import HardenedProtocol, Lost
from tests.imap_server import Conversation, ScriptedImap

PATIENCE = 30.0


@asynccontextmanager
async def connected(server: ScriptedImap) -> AsyncIterator[HardenedProtocol]:
    """A protocol in the state SELECTED: no client around it."""
    loop = asyncio.get_running_loop()
    protocol = HardenedProtocol(loop)
    await loop.create_connection(lambda: protocol, "127.0.0.1", server.port)
    async with asyncio.timeout(PATIENCE):
        await protocol.greeting
    protocol.state = lib.SELECTED
    try:
        yield protocol
    finally:
        protocol.fail(None)
        protocol.transport.abort()


def says(text: str | bytes, end: str = "OK done") -> Callable[[Conversation, str], Any]:
    async def answer(client: Conversation, _command: str) -> None:
        client.send(text)
        client.send(f"{client.tag} {end}\r\n")

    return answer


async def run(protocol: HardenedProtocol, name: str, *arguments: str, prefix: str = "") -> Any:
    command = lib.Command(name, protocol.new_tag(), *arguments, prefix=prefix, loop=protocol.loop)
    async with asyncio.timeout(PATIENCE):
        return await protocol.execute(command)


async def fetch(protocol: HardenedProtocol, items: str = "(UID FLAGS)") -> list[Any]:
    lines: list[Any] = (await run(protocol, "FETCH", "1:*", items, prefix="UID")).lines
    return lines


async def test_thousands_of_lines_in_one_write_are_all_taken() -> None:  # [1]
    burst = "".join(f"* {n} FETCH (UID {n} FLAGS ())\r\n" for n in range(1, 3001))
    server = ScriptedImap(on={"UID FETCH": says(burst)})
    async with server.serving(), connected(server) as protocol:
        lines = await fetch(protocol)
    assert len(read_fetches(lines[:-1])) == 3000


async def test_a_lost_peer_wakes_who_waits_for_an_answer() -> None:  # [2]
    async def dies(client: Conversation, _command: str) -> None:
        client.hang_up()

    server = ScriptedImap(on={"UID FETCH": dies})
    async with server.serving(), connected(server) as protocol:
        with pytest.raises(Lost):
            await fetch(protocol)
        assert protocol.state == lib.LOGOUT


async def test_a_lost_peer_wakes_who_waits_for_news() -> None:  # [2]
    async def dies(client: Conversation, _command: str) -> None:
        client.send("+ idling\r\n")
        await client.writer.drain()
        client.hang_up()

    server = ScriptedImap(on={"IDLE": dies})
    async with server.serving(), connected(server) as protocol:
        idle = lib.IdleCommand(protocol.new_tag(), protocol.idle_queue, loop=protocol.loop)
        waiting = asyncio.ensure_future(protocol.execute(idle))
        async with asyncio.timeout(PATIENCE):
            assert await protocol.idle_queue.get() == lib.STOP_WAIT_SERVER_PUSH
        with pytest.raises(Lost):
            await waiting


async def test_a_refused_token_is_told_with_its_reason() -> None:  # [4]
    async def refuses(client: Conversation, _command: str) -> None:
        client.send("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n")
        assert await client.reader.readline() == b"\r\n"
        client.no("[AUTHENTICATIONFAILED] token expired")

    server = ScriptedImap(on={"AUTHENTICATE": refuses})
    async with server.serving(), connected(server) as protocol:
        protocol.state = lib.NONAUTH
        async with asyncio.timeout(PATIENCE):
            response = await protocol.xoauth2("somebody", "a-token")
    assert response.result == "NO"
    assert b"token expired" in response.lines[-1]
    assert b"+ eyJzdGF0dXMiOiI0MDEifQ==" in response.lines


async def test_stars_and_parentheses_in_a_subject_stay_what_they_are() -> None:  # [5] [6]
    envelopes = "".join(f'* {n} FETCH (UID {n} ENVELOPE (NIL "a * b (c" NIL))\r\n' for n in (1, 2))
    server = ScriptedImap(on={"UID FETCH": says(envelopes)})
    async with server.serving(), connected(server) as protocol:
        lines = await fetch(protocol, "(UID ENVELOPE)")
    assert lines[0] == b'1 FETCH (UID 1 ENVELOPE (NIL "a * b (c" NIL))'
    assert lines[1].startswith(b"2 FETCH (UID 2 ")


async def test_news_between_commands_are_kept_within_a_bound() -> None:  # [7]
    news = "".join(f"* {n} EXISTS\r\n" for n in range(5000))
    server = ScriptedImap(on={"NOOP": says(news)})
    async with server.serving(), connected(server) as protocol:
        await run(protocol, "NOOP")
        assert len(protocol.unsolicited) == 1000
        assert protocol.unsolicited[-1] == b"4999 EXISTS"


async def test_a_greeting_is_handed_on_whatever_it_says() -> None:  # [8]
    server = ScriptedImap(greeting="* BYE too busy\r\n")
    async with server.serving():
        loop = asyncio.get_running_loop()
        protocol = HardenedProtocol(loop)
        await loop.create_connection(lambda: protocol, "127.0.0.1", server.port)
        async with asyncio.timeout(PATIENCE):
            assert await protocol.greeting == b"* BYE too busy"
        protocol.transport.abort()


async def test_an_answer_that_nobody_waits_for_any_more_ends_the_connection() -> None:  # [12]
    async def answers_another(client: Conversation, _command: str) -> None:
        client.send("XX99 OK that was long ago\r\n")

    server = ScriptedImap(on={"UID FETCH": answers_another})
    async with server.serving(), connected(server) as protocol:
        with pytest.raises(Lost):
            await fetch(protocol)


async def test_a_folder_can_be_examined() -> None:  # [13]
    server = ScriptedImap()
    async with server.serving(), connected(server) as protocol:
        response = await run(protocol, "EXAMINE", "INBOX")
    assert response.result == "OK"
    assert b"OK [UIDVALIDITY 7] valid" in response.lines


@pytest.mark.parametrize("line", ["* 1 FETCH (UID 1 FLAGS (", "A" * 70, "* OK "])
async def test_a_line_without_an_end_ends_the_connection_not_the_memory(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardened, "MAX_LINE", 1 << 16)  # the bound itself, not 8 MiB of it

    async def goes_on(client: Conversation, _command: str) -> None:
        while not client.writer.transport.is_closing():
            client.send(line.encode() + b"x" * 1000)
            await client.writer.drain()

    server = ScriptedImap(on={"UID FETCH": goes_on})
    async with server.serving(), connected(server) as protocol:
        with pytest.raises(Lost, match="Garbled"):
            await fetch(protocol)
        assert len(protocol.buffer) < 1 << 20


async def test_a_literal_beyond_all_measure_ends_the_connection_at_once() -> None:
    server = ScriptedImap(on={"UID FETCH": says("* 1 FETCH (UID 1 BODY[] {99999999999}\r\n")})
    async with server.serving(), connected(server) as protocol:
        with pytest.raises(Lost, match="Garbled"):
            await fetch(protocol)


async def test_free_text_that_looks_like_a_literal_is_none() -> None:
    server = ScriptedImap(on={"NOOP": says("* OK look at {5}\r\n", end="OK done {7}")})
    async with server.serving(), connected(server) as protocol:
        assert (await run(protocol, "NOOP")).result == "OK"
        assert (await run(protocol, "NOOP")).result == "OK"


async def test_nothing_of_a_mail_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    mail = b"Subject: private\r\n\r\nnobody's business"
    server = ScriptedImap(mails={1: mail})
    with caplog.at_level(logging.DEBUG):
        async with server.serving(), connected(server) as protocol:
            answer = await run(protocol, "FETCH", "1", "(UID BODY.PEEK[])", prefix="UID")
    lines = answer.lines
    assert bytes(read_fetches(lines[:-1])[1].body or b"") == mail
    assert "private" not in caplog.text
    assert "nobody's business" not in caplog.text


# --- however the bytes are cut -------------------------------------------------------------------

_BODY = b"Subject: {5}\r\n\r\n* 1 EXISTS\r\nA1 OK no\r\n)\r\n* 2 FETCH (UID 9 BODY[] {3}\r\nabc"
_STREAM = (
    b"* 3 EXISTS\r\n"
    + b"* 1 FETCH (UID 11 FLAGS (\\Seen) BODY[] {%d}\r\n%b)\r\n" % (len(_BODY), _BODY)
    + b"* 2 FETCH (UID 12 BODY[] {0}\r\n FLAGS ())\r\n"
    + b'* 3 FETCH (UID 13 BODY[] "quoted \\" {4}" FLAGS ($Junk))\r\n'
    + b"* 4 EXISTS\r\n"
)


class _Transport:
    """Where a protocol writes to; nobody reads it."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.aborted = True


@given(st.lists(st.integers(1, len(_STREAM)), max_size=40))
def test_answers_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    async def play() -> dict[int, Any]:
        protocol = HardenedProtocol(asyncio.get_running_loop())
        transport: Any = _Transport()
        protocol.connection_made(transport)
        protocol.data_received(b"* OK hello\r\n")
        protocol.state = lib.SELECTED
        asking = asyncio.ensure_future(fetch(protocol, "(UID FLAGS BODY.PEEK[])"))
        await asyncio.sleep(0)
        stream = _STREAM + f"{protocol.tagpre}0 OK done\r\n".encode()
        edges = [0, *sorted(cuts), len(stream)]
        for start, end in pairwise(edges):
            if start < end:
                protocol.data_received(stream[start:end])
        lines = await asking
        assert not transport.aborted
        return read_fetches(lines[:-1])

    found = asyncio.run(play())
    assert {uid: bytes(one.body or b"") for uid, one in found.items()} == {
        11: _BODY,
        12: b"",
        13: b'quoted " {4}',
    }
    assert found[13].flags == {"$Junk"}


@given(st.binary(max_size=400))
def test_no_bytes_raise_out_of_the_protocol(noise: bytes) -> None:
    async def play() -> None:
        protocol = HardenedProtocol(asyncio.get_running_loop())
        transport: Any = _Transport()
        protocol.connection_made(transport)
        protocol.data_received(b"* OK hello\r\n")
        protocol.state = lib.SELECTED
        asking = asyncio.ensure_future(fetch(protocol))
        await asyncio.sleep(0)
        protocol.data_received(noise)
        protocol.connection_lost(None)
        with pytest.raises(Lost):
            await asking

    asyncio.run(play())
