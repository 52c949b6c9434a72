"""The level `bwrap`: what its agents find of the machine, and the relay that stays outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.isolation.processes import alive, end, members, read_pid_file
from daemon.model import ProcessRef
from tests.integration.isolation_help import PATIENCE, Home, home_at, until

MEGABYTES = 8


@pytest.fixture
def home() -> Iterator[Home]:
    yield from home_at("bwrap")


class Gateway:
    """Listens where the gateway would; answers each connection, once that is at its end, with all
    that it said, twice.
    """

    def __init__(self) -> None:
        self.broken = 0
        self.connections = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            said = await reader.read()
            writer.write(said + said)
            await writer.drain()
        except ConnectionError:
            self.broken += 1
        writer.close()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


SPEAKER = """
import os, socket, sys, threading
port, size = int(sys.argv[1]), int(sys.argv[2])
said, heard = os.urandom(size), bytearray()
with socket.create_connection(("127.0.0.1", port)) as connection:
    connection.sendall(said)
    connection.shutdown(socket.SHUT_WR)
    while piece := connection.recv(65536):
        heard += piece
print("the same" if heard == said + said else f"{len(heard)} bytes of something else")
"""


async def python(home: Home, port: int, program: str, *arguments: object) -> str:
    (home.work / "program.py").write_text(program)
    words = " ".join(map(str, arguments))
    return await home.shell(f"python3 -I -S program.py {port} {words}", port=port)


async def test_bytes_and_ends_pass_both_ways_unchanged(home: Home, gateway: Gateway) -> None:
    async with gateway.open() as port:
        assert await python(home, port, SPEAKER, MEGABYTES << 20) == "the same\n"


CROWD = """
import socket, sys
port = int(sys.argv[1])
crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
for each in crowd:
    each.sendall(b"x")
    each.shutdown(socket.SHUT_WR)
print(sum(each.recv(9) == b"xx" for each in crowd))
"""


async def test_more_connections_than_it_carries_at_once_wait(home: Home, gateway: Gateway) -> None:
    async with gateway.open() as port:
        assert await python(home, port, CROWD) == "100\n"


BREAKER = """
import socket, struct, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b"half a request")
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()
again = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
again.shutdown(socket.SHUT_WR)
print(again.recv(9))
"""


async def test_connection_that_breaks_within_ends_outside_and_no_other(
    home: Home, gateway: Gateway
) -> None:
    async with gateway.open() as port:
        assert await python(home, port, BREAKER) == "b''\n"
        assert await until(lambda: gateway.connections == 2)


LISTENER = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
try:
    print(connection.recv(9))
except ConnectionResetError:
    print(b"")
"""


async def test_gateway_that_is_not_there_leaves_nobody_waiting(home: Home) -> None:
    with socket.socket() as silent:  # its port, and nobody who listens
        silent.bind(("127.0.0.1", 0))
        assert await python(home, silent.getsockname()[1], LISTENER) == "b''\n"


async def test_network_is_a_loopback_with_the_gateway_on_it(home: Home, gateway: Gateway) -> None:
    async with gateway.open() as port:
        seen = await home.shell(
            "cat /sys/class/net/*/address /proc/net/dev /run/postroom/plan 2>&1; uname -n; echo $$;"
            f"(exec 3<>/dev/tcp/127.0.0.2/{port}) 2>&1",
            port=port,
        )
    lines = seen.splitlines()
    assert lines[0].endswith("No such file or directory")
    assert lines[1].endswith("Permission denied"), "it is in /proc, which no agent may read"
    assert lines[2].endswith("Permission denied")
    assert lines[3:5] == ["postroom", "2"]
    assert "Connection refused" in seen


# --- the relay ------------------------------------------------------------------------------------


@asynccontextmanager
async def running(home: Home, port: int = 9009) -> AsyncIterator[ProcessRef]:
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher(port=port)), "-c", "echo x > up; exec sleep 4711"),
        stdin=asyncio.subprocess.DEVNULL,
    )
    assert await until((home.work / "up").exists)
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    try:
        yield ref
    finally:
        await end(ref, grace=0.0)
        await process.wait()


async def test_relay_is_behind_walls_itself(home: Home) -> None:
    async with running(home) as ref:
        assert await until(lambda: status(ref.pid)["Seccomp"] == "2"), "the last of them"
        told = status(ref.pid)
        assert (told["NoNewPrivs"], int(told["CapPrm"], 16)) == ("1", 0)
        assert set(told["Uid"].split()) == {str(os.geteuid() if home.user is None else home.user)}


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_no_agent_outlives_its_relay(home: Home) -> None:
    async with running(home) as ref:
        family = members(ref)
        assert len(family) == 4, "relay, bubblewrap, its init, the agent"
        os.kill(ref.pid, signal.SIGKILL)
        assert await until(lambda: not any(map(alive, family)))


async def test_bubblewrap_that_fails_is_a_start_that_fails(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its complaint, and the launcher's status: no start with fewer walls."""
    false = home.top.parent / "bwrap"
    false.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    false.chmod(0o755)
    monkeypatch.setenv("PATH", str(false.parent), prepend=os.pathsep)
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher()), "-c", "echo started"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, output) == (78, b"")
    assert complaint.decode() == "bwrap: No permissions to create new namespace\n"
