"""From a name to a connection, over loopback: a border that takes some of it for outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from daemon.destinations import Destination
from daemon.egress import dialling
from daemon.egress.addresses import is_outside
from daemon.egress.dialling import Dialler, SystemResolver
from daemon.egress.verdicts import Refused, Verdict


@dataclass
class Names:
    """The port `Resolver`: gives one answer after the other, and the last one ever after."""

    answers: list[Sequence[str] | OSError]
    asked: list[str] = field(default_factory=list)

    async def addresses(self, wanted: Destination) -> Sequence[str]:
        self.asked.append(str(wanted))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, OSError):
            raise found
        return found


def second_loopback(there: str, here: str | None = None) -> bool:
    """As if 127.0.0.2 lay outside, and nothing else did."""
    del here
    return there == "127.0.0.2"


async def greeted(dialler: Dialler, port: int) -> bytes:
    async with dialler.dial(Destination("host.example", port)) as line:
        return await line.reader.read()


async def verdict(dialler: Dialler, port: int = 9) -> Verdict:
    with pytest.raises(Refused) as refused:
        await greeted(dialler, port)
    return refused.value.verdict


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    writer.write(f"you reached {writer.get_extra_info('sockname')[0]}".encode())
    writer.close()


async def serving(address: str) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(_greet, address)
    return server, server.sockets[0].getsockname()[1]


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A name that says another address the second time (rebinding) is not asked a second time."""
    server, port = await serving("127.0.0.2")
    async with server:
        names = Names([["127.0.0.2"], ["127.0.0.1"]])
        assert await greeted(Dialler(names, second_loopback), port) == b"you reached 127.0.0.2"
        assert names.asked == [f"host.example:{port}"]


async def test_what_lies_nearer_is_passed_over() -> None:
    server, port = await serving("0.0.0.0")  # noqa: S104 - both loopback addresses
    async with server:
        names = Names([["127.0.0.1", "::1", "127.0.0.2"]])
        assert await greeted(Dialler(names, second_loopback), port) == b"you reached 127.0.0.2"


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["10.0.0.1", "169.254.169.254"], ["::ffff:127.0.0.1"], ["::1"]]
)
async def test_a_name_that_leads_nearer_is_refused(found: list[str]) -> None:
    server, port = await serving("127.0.0.1")
    async with server:
        assert await verdict(Dialler(Names([found])), port) is Verdict.INSIDE


async def test_so_is_one_that_leads_to_this_machine_by_an_address_of_its_own() -> None:
    def border(there: str, here: str | None = None) -> bool:
        return is_outside("1.1.1.1", here and ("1.1.1.1" if there == here else "192.168.1.7"))

    server, port = await serving("127.0.0.1")
    async with server:
        dialler = Dialler(Names([["127.0.0.1"]]), border)
        assert await verdict(dialler, port) is Verdict.INSIDE


async def test_a_name_without_addresses_is_not_found() -> None:
    assert await verdict(Dialler(Names([[]]))) is Verdict.UNRESOLVED
    assert await verdict(Dialler(Names([OSError("no such name")]))) is Verdict.UNRESOLVED


async def test_where_nobody_listens_the_next_address_is_tried() -> None:
    server, port = await serving("127.0.0.2")
    async with server:

        def border(there: str, here: str | None = None) -> bool:
            del here
            return there.startswith("127.")

        names = Names([["127.0.0.3", "127.0.0.2"]])
        assert await greeted(Dialler(names, border), port) == b"you reached 127.0.0.2"
    assert await verdict(Dialler(Names([["127.0.0.2"]]), border), port) is Verdict.UNREACHABLE


async def test_nobody_waits_for_ever_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def addresses(self, wanted: Destination) -> Sequence[str]:
            del wanted
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.01)
    assert await verdict(Dialler(Silent())) is Verdict.UNREACHABLE


async def test_where_no_thread_can_begin_the_next_look_up_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(dialling, "LOOKUPS", 1)
    resolver = SystemResolver(lambda _: ["127.0.0.2"])
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        assert await verdict(Dialler(resolver)) is Verdict.UNRESOLVED
    async with asyncio.timeout(20):
        assert await resolver.addresses(Destination("host.example", 1)) == ["127.0.0.2"]


async def test_a_name_server_that_does_not_answer_holds_so_many_threads_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "LOOKUPS", 1)
    answers, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def look_up(wanted: Destination) -> list[str]:
        loop.call_soon_threadsafe(began.set)
        answers.wait(20)
        if wanted.host == "gone.example":
            raise OSError("no such name")
        return ["127.0.0.2"]

    resolver = SystemResolver(look_up)
    gone = asyncio.create_task(resolver.addresses(Destination("gone.example", 1)))
    await began.wait()
    given_up = asyncio.create_task(resolver.addresses(Destination("late.example", 1)))
    other = asyncio.create_task(resolver.addresses(Destination("host.example", 1)))
    await asyncio.sleep(0)
    given_up.cancel()
    lookups = [thread for thread in threading.enumerate() if thread.name == "egress-lookup"]
    assert len(lookups) == 1
    answers.set()
    with pytest.raises(OSError, match="no such name"):
        await gone
    assert await other == ["127.0.0.2"]
    assert not any(thread for thread in lookups if not thread.daemon)
