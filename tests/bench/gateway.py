"""What the gateway costs: `python -m tests.bench.gateway [REQUESTS]`.

An upstream that answers at once, the gateway, and the client are three processes. Direct calls and
calls through the gateway alternate on connections that stay open; the request is 24 kB, as a first
turn's. Prints milliseconds to the first byte of an answer, what each piece of a paced stream is
late, and the time of whole streams, with differences and ratios.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.clock import SystemClock
from daemon.gateway import ModelGateway
from daemon.model import ModelCall
from tests.integration.gateway_help import turn

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
    async def book(call: ModelCall) -> None:
        pass

    async def spent_today(since: float) -> float:
        return 0.0

    gateway = ModelGateway(
        upstream_url=url,
        api_key="sk-ant-bench",
        clock=SystemClock(),
        book=book,
        per_turn=1e9,
        daily=1e9,
        spent_today=spent_today,
        observe=lambda _: None,
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
        body = {"model": "claude-sonnet-5", "stream": True, "metadata": order, "pad": ""}
        body["pad"] = "x" * (BODY_BYTES - len(json.dumps(body)))
        data = json.dumps(body).encode()
        head = (
            f"POST {MESSAGES} HTTP/1.1\r\nhost: x\r\nx-api-key: {self.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        began = time.perf_counter()
        self.writer.write(head.encode() + data)
        seen = await self.reader.readuntil(b"\r\n\r\n")
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


def row(name: str, direct: Sequence[float], through: Sequence[float]) -> None:
    """p50 and p99 in milliseconds of both ways; p99 needs a hundred samples to say anything."""
    for quantile, index in (("p50", 49), ("p99", 98)):
        a = statistics.quantiles(direct, n=100, method="inclusive")[index] * 1000
        b = statistics.quantiles(through, n=100, method="inclusive")[index] * 1000
        print(f"{name:38}{quantile:>5}{a:12.2f}{b:12.2f}{b - a:+12.2f}{b / a:10.3f}")


async def measure(ways: tuple[Way, Way], requests: int) -> None:
    print(f"{'ms':38}{'':5}{'direct':>12}{'gateway':>12}{'more':>12}{'ratio':>10}")
    for way in ways:
        for _ in range(20):
            await way.ask()
    firsts: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(requests):
        for way in ways:
            firsts[way.name].append((await way.ask())[0])
    row(f"first byte, {requests} requests", *firsts.values())
    await streams(ways, 5, 200, 10.0)
    await streams(ways, 5, 10_000, 0.0)


async def streams(ways: tuple[Way, Way], times: int, pieces: int, apart_ms: float) -> None:
    whole: dict[str, list[float]] = {way.name: [] for way in ways}
    late: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(times):
        for way in ways:
            _, seconds, lates = await way.ask(pieces, apart_ms)
            whole[way.name].append(seconds)
            late[way.name] += lates
    if apart_ms:
        row(f"a piece late, {apart_ms:g} ms apart", *late.values())
    kind = f"{apart_ms:g} ms apart" if apart_ms else "as fast as it goes"
    direct, through = (statistics.median(values) * 1000 for values in whole.values())
    more, ratio = through - direct, through / direct
    name = f"stream of {pieces}, {kind}"
    print(f"{name:38}{'p50':>5}{direct:12.2f}{through:12.2f}{more:+12.2f}{ratio:10.3f}")


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


async def main(requests: int) -> None:
    api, (api_port,) = await child("upstream")
    gateway, (port, token) = await child("serve", f"http://127.0.0.1:{api_port}")
    try:
        direct = await Way.to("direct", int(api_port), "none")
        await measure((direct, await Way.to("gateway", int(port), token)), requests)
    finally:
        for process in (gateway, api):
            process.kill()
            await process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream"]:
            asyncio.run(serve_upstream())
        case ["serve", url]:
            asyncio.run(serve_gateway(url))
        case rest:
            asyncio.run(main(int(rest[0]) if rest else 500))
