"""AWS's event stream encoding: its published examples, and whatever bytes may come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.gateway.upstreams.dialect import GarbledError
from daemon.gateway.upstreams.eventstream import EventBuffer, EventMessage

# With these AWS's own libraries are tested: no headers, and one of type string.
PLAIN = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")
TYPED = bytes.fromhex(
    "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e"
    "7b27666f6f273a27626172277d8d9c08b1"
)
FOO = b"{'foo':'bar'}"
JSON = {"content-type": "application/json"}

names = st.text("abcXYZ:-", min_size=1, max_size=20)
messages = st.builds(EventMessage, st.dictionaries(names, st.text(max_size=50)), st.binary())


def test_published_messages_are_read_and_written_so() -> None:
    assert list(EventBuffer().feed(PLAIN + TYPED)) == [
        EventMessage({}, FOO),
        EventMessage(JSON, FOO),
    ]
    assert EventMessage({}, FOO).encode() == PLAIN
    assert EventMessage(JSON, FOO).encode() == TYPED


@given(st.lists(messages, max_size=5), st.integers(1, 40))
def test_chunks_may_be_cut_anywhere(sent: list[EventMessage], size: int) -> None:
    stream, buffer = b"".join(each.encode() for each in sent), EventBuffer()
    read: list[EventMessage] = []
    for at in range(0, len(stream), size):
        read += buffer.feed(stream[at : at + size])
    assert read == sent
    assert buffer.empty


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waits_for_more(noise: bytes) -> None:
    with contextlib.suppress(GarbledError):
        list(EventBuffer().feed(noise))


@pytest.mark.parametrize("at", range(len(TYPED)))
def test_a_byte_that_changed_is_noticed(at: int) -> None:
    changed = bytearray(TYPED)
    changed[at] ^= 1
    with pytest.raises(GarbledError):
        list(EventBuffer().feed(bytes(changed)))
