"""What the gateway costs beside direct calls.

An upstream that answers at once, the gateway, and the client are three processes (the first two
run as `python -m tests.bench.gateway upstream` and `serve URL`). Direct calls and calls through the
gateway alternate on connections that stay open; the request is 24 kB, as a first turn's. Measured
are the time to the first byte of an answer, what each piece of a paced stream is late, and whole
streams.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.budgets import Limits
from daemon.clock import SystemClock
from daemon.gateway import ModelGateway, Upstream, open_dialect
from tests.bench.rows import Row, compare, more, ratio
from tests.integration.gateway_help import MODEL, Book, turn
from tests.integration.gateway_help import ask as ask_for

MESSAGES = "/v1/messages?beta=true"
BODY_BYTES = 24_000
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-sonnet-5",'
    b'"usage":{"input_tokens":6000,"output_tokens":1}}}\n\n'
)
END = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":900}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def piece() -> bytes:
    """One delta; its text is the moment at which it was sent, in nanoseconds."""
    data = (
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        f'@{time.monotonic_ns()}@"}}}}'
    )
    return f"event: content_block_delta\ndata: {data}\n\n".encode()


# --- the upstream process -------------------------------------------------------------------------


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests whose body names so many pieces, so many milliseconds apart."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.lower().index(b"content-length:") + len(b"content-length:")
            body = await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
            order = json.loads(body)["metadata"]
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n" + chunk(START)
            )
            for _ in range(order["pieces"]):
                if order["apart_ms"]:
                    await asyncio.sleep(order["apart_ms"] / 1000)
                writer.write(chunk(piece()))
                await writer.drain()
            writer.write(chunk(END) + b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve_upstream() -> None:
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the gateway process --------------------------------------------------------------------------


async def serve_gateway(url: str) -> None:
    gateway = ModelGateway(
        dialect=open_dialect(Upstream(url=url), "sk-ant-bench", SystemClock()),
        model=MODEL,
        clock=SystemClock(),
        limits=Limits(per_turn=1e9, per_sender_daily=1e9, daily=1e9),
        books=Book(),
        observe=lambda _: None,
        nearing=lambda _: None,
        channel_of=lambda _: "C1",
    )
    async with gateway:
        token = gateway.issue()
        gateway.open_turn(token, turn())
        print(gateway.port, token, flush=True)
        await asyncio.Event().wait()


# --- the client -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Way:
    """A connection that stays open, and what was measured on it: seconds."""

    name: str
    port: int
    token: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, name: str, port: int, token: str) -> Way:
        return cls(name, port, token, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, pieces: int = 0, apart_ms: float = 0.0) -> tuple[float, float, list[float]]:
        """Seconds to the first byte of the body and to its end, and how late each piece was."""
        order = {"pieces": pieces, "apart_ms": apart_ms}
        body = {**ask_for(""), "metadata": order}
        body |= ask_for("x" * (BODY_BYTES - len(json.dumps(body))))
        data = json.dumps(body).encode()
        head = (
            f"POST {MESSAGES} HTTP/1.1\r\nhost: x\r\nx-api-key: {self.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        began = time.perf_counter()
        self.writer.write(head.encode() + data)
        seen = await self.reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in seen.partition(b"\r\n")[0]:
            raise RuntimeError(f"{self.name} answered {seen!r}")
        seen = await self.reader.read(65_536)
        first = time.perf_counter() - began
        late, tail = lateness(seen), seen[-8:]
        while not tail.endswith(b"0\r\n\r\n"):
            seen = await self.reader.read(65_536)
            late += lateness(seen)
            tail = (tail + seen)[-8:]
        return first, time.perf_counter() - began, late


def lateness(data: bytes) -> list[float]:
    now = time.monotonic_ns()
    return [(now - int(at)) / 1e9 for at in data.split(b"@")[1::2] if at.isdigit()]


async def gateway(_root: Path, _url: str, requests: int = 500) -> list[Row]:
    api, (api_port,) = await child("upstream")
    serving, (port, token) = await child("serve", f"http://127.0.0.1:{api_port}")
    try:
        direct = await Way.to("direct", int(api_port), "none")
        return await measure((direct, await Way.to("gateway", int(port), token)), requests)
    finally:
        for process in (serving, api):
            process.kill()
            await process.wait()


async def measure(ways: tuple[Way, Way], requests: int) -> list[Row]:
    for way in ways:
        for _ in range(20):
            await way.ask()
    firsts: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(requests):
        for way in ways:
            firsts[way.name].append(1000 * (await way.ask())[0])
    work, beside = "gateway: first byte of an answer", "the direct call"
    return [
        *compare(work, beside, firsts["gateway"], firsts["direct"], p50=more(3)),
        *await streams(ways, 5, 200, 10.0),
        *await streams(ways, 5, 10_000, 0.0),
    ]


async def streams(ways: tuple[Way, Way], times: int, pieces: int, apart_ms: float) -> Sequence[Row]:
    """Whole streams in seconds; of those whose pieces come apart in time, also their lateness."""
    whole: dict[str, list[float]] = {way.name: [] for way in ways}
    late: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(times):
        for way in ways:
            _, seconds, lates = await way.ask(pieces, apart_ms)
            whole[way.name].append(seconds)
            late[way.name] += [1000 * value for value in lates]
    beside = "the direct call"
    if not apart_ms:
        name = f"gateway: {pieces} pieces as fast as they go"
        return compare(name, beside, whole["gateway"], whole["direct"], unit="s")[:1]
    name = f"gateway: {pieces} pieces, {apart_ms:g} ms apart"
    return [
        *compare(
            f"{name}, whole", beside, whole["gateway"], whole["direct"], unit="s", p50=ratio(1.01)
        )[:1],
        *compare(f"{name}, one late", beside, late["gateway"], late["direct"]),
    ]


async def child(*arguments: str) -> tuple[asyncio.subprocess.Process, list[str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.gateway", *arguments, stdout=asyncio.subprocess.PIPE
    )
    while process.stdout is not None:
        words = (await process.stdout.readline()).decode().split()
        if words and words[0].isdigit():
            return process, words
        if not words:
            break
    raise RuntimeError(f"{arguments[0]} did not start")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream"]:
            asyncio.run(serve_upstream())
        case ["serve", url]:
            asyncio.run(serve_gateway(url))
        case _:
            sys.exit("python -m tests.bench gateway")
