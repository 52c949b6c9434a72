"""Bytes between two pairs of sockets, at a moment that no clock can be waited for."""

from __future__ import annotations

import asyncio
import socket

import pytest

from daemon.egress import carrying
from daemon.egress.carrying import Carriage, Ended, carry
from daemon.egress.dialling import Line
from daemon.egress.outing import Outing
from tests.integration.gateway_help import turn


async def test_what_comes_as_the_patience_ends_is_counted_and_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carrying, "IDLE_SECONDS", 0.0)
    outing, carriage = Outing(turn()), Carriage()
    ours, client_end = socket.socketpair()
    way, outside_end = socket.socketpair()
    with client_end, outside_end:
        client = Line(*await asyncio.open_connection(sock=ours))
        outside = Line(*await asyncio.open_connection(sock=way))
        client.reader.feed_data(b"hello\n")
        await carry(client, outside, outing, carriage)
        client.abort()
        outside.abort()
        assert carriage == Carriage(sent=6, received=0, ended=Ended.IDLE)
        assert outing.sent == 6
        assert outside_end.recv(100) == b"hello\n"
