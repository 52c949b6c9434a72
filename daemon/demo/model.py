"""A scripted stand-in of Anthropic's Messages API on loopback. No model is behind it.

    async with StandInModel(script=directed) as model:
        gate = model.hold("hello", where="stream")
        ...  # point a CLI or a gateway at model.url
        entry = await gate.arrived()
        gate.release()

As a process of its own: `python -m daemon.demo.model --port N --journal FILE`. What a checker does
over HTTP: `remote.py`. What scripts see and answer, and the directives of tests: `script.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from daemon.demo.colleague import colleague
from daemon.demo.controls import Entry, Fault, Faults, Gate, Journal, Where
from daemon.demo.messages_api import (
    PromptCache,
    complaint,
    count_tokens,
    cut_off,
    error_body,
    frames,
    message_body,
)
from daemon.demo.remote import remote_routes
from daemon.demo.script import Reply, Script, read_ask

LABEL = {"x-stand-in": "scripted"}


class StandInModel:
    """The server; an async context manager. `journal` and `faults` may be used while it runs.

    With `api_key` set, another `x-api-key` is answered with 401, as by the real API.
    """

    def __init__(
        self,
        script: Script = colleague,
        *,
        port: int = 0,
        api_key: str | None = None,
        journal_file: Path | None = None,
        bodies: bool = True,
    ) -> None:
        self.script = script
        self.pace = 0.0
        """Seconds to wait before each piece of each answer."""
        self.faults = Faults()
        self._port, self._api_key = port, api_key
        self._log = Journal(journal_file, bodies=bodies)
        self.gates: list[Gate] = []
        self._cache = PromptCache()
        self._runner: web.AppRunner | None = None
        self._closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def journal(self) -> list[Entry]:
        return self._log.entries

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/", _about)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_routes(remote_routes(self))
        # Cancelled handlers are how a client that went away is seen while nothing is written.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self.clear()
        if self._runner:
            await self._runner.cleanup()
        self._log.close()

    def hold(
        self, text: str = "", *, where: Where = "headers", tool_results: int | None = None
    ) -> Gate:
        """Hold the requests with this in their last prompt (and so many tool results after it)."""
        gate = Gate(text, where, tool_results)
        self.gates.append(gate)
        return gate

    def fail(
        self,
        status: int,
        *,
        times: int | None = 1,
        text: str = "",
        tool_results: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Answer the next `times` requests (all until `clear()` for None) with this status."""
        self.faults.add(Fault("status", status, retry_after, times, text, tool_results))

    def clear(self) -> None:
        """End all faults and gates."""
        self.faults.clear()
        for gate in self.gates:
            gate.release()

    async def requests(self, text: str = "", count: int = 1, seconds: float = 30) -> list[Entry]:
        """The requests with this in their last prompt, once there are `count`. TimeoutError."""
        return await self._log.wait_for(lambda e: text in e.ask.prompt, count, seconds)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        entry = await self._record(request)
        outcome = "cut by the model"
        try:
            answer = await self._answer(request, entry)
        except (asyncio.CancelledError, ConnectionError):
            outcome = outcome if self._closing else "cut by the client"
            raise
        except _CutError as cut:
            _abort(request)
            return cut.response
        else:
            outcome = "finished" if answer.status == 200 else f"status {answer.status}"
            return answer
        finally:
            self._log.end(entry, outcome)

    async def _record(self, request: web.Request) -> Entry:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        valid = complaint(body) is None
        entry = Entry(
            number=len(self.journal) + 1,
            path=request.path,
            query=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body if isinstance(body, dict) else {},
            ask=read_ask(body if valid else {}),
        )
        await self._log.add(entry)
        return entry

    async def _answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        await self._pass_gates(entry, "headers")
        if (why := complaint(entry.body)) is not None:
            return _error(400, why)
        if self._api_key not in {None, entry.headers.get("x-api-key")}:
            return _error(401, "invalid x-api-key")
        fault = self.faults.take(entry)
        if fault and fault.kind == "status":
            return _error(fault.status, "The stand-in was told to fail.", fault.retry_after)
        if fault and fault.kind == "hang":
            await self.faults.until_cleared()
            raise _CutError(web.Response())
        reply = cut_off(self.script(entry.body), int(entry.body["max_tokens"]))
        await asyncio.sleep(reply.delay)
        entry.usage = self._cache.usage(entry.body, reply)
        message = message_body(str(entry.body["model"]), reply, entry.usage)
        if entry.body.get("stream"):
            return await self._stream(request, entry, message, reply, fault)
        await self._pass_gates(entry, "stream")
        await asyncio.sleep(reply.spread)
        return web.json_response(message, headers=_headers())

    async def _stream(
        self,
        request: web.Request,
        entry: Entry,
        message: Mapping[str, Any],
        reply: Reply,
        fault: Fault | None,
    ) -> web.StreamResponse:
        headers = {**_headers(), "content-type": "text/event-stream; charset=utf-8"}
        response = web.StreamResponse(headers={**headers, "cache-control": "no-cache"})
        await response.prepare(request)
        events = list(frames(message))
        wait = self.pace + reply.spread / max(1, sum(event.paced for event in events))
        first = True
        for event in events:
            if event.paced and wait:
                await asyncio.sleep(wait)
            await response.write(event.encode())
            if event.paced and first:
                first = False
                await self._pass_gates(entry, "stream")
                if fault:
                    await self._go_wrong(response, entry, fault)
                    break
        await response.write_eof()
        return response

    async def _go_wrong(self, response: web.StreamResponse, entry: Entry, fault: Fault) -> None:
        if fault.kind == "malformed":
            self._log.end(entry, "malformed")
            await response.write(b'event: content_block_delta\ndata: {"type": "content_bl\n\n')
            return
        if fault.kind == "stall":
            await self.faults.until_cleared()
        raise _CutError(response)

    async def _pass_gates(self, entry: Entry, where: Where) -> None:
        for gate in list(self.gates):
            if gate.fits(entry, where):
                await gate.hold(entry)

    async def _count_tokens(self, request: web.Request) -> web.Response:
        text = await request.text()
        return web.json_response({"input_tokens": count_tokens(text)}, headers=_headers())


class _CutError(Exception):
    """The connection is to be closed before the answer is whole."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


async def _about(_: web.Request) -> web.Response:
    return web.Response(
        text="Postroom's scripted stand-in of the Messages API. No model is here.\n"
    )


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()


def _headers() -> dict[str, str]:
    return {**LABEL, "request-id": f"req_{uuid.uuid4().hex[:24]}"}


def _error(status: int, message: str, retry_after: int | None = None) -> web.Response:
    headers = _headers()
    body = error_body(status, message, headers["request-id"])
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return web.json_response(body, status=status, headers=headers)


async def serve(port: int, journal_file: Path | None) -> None:
    """Serve the demo's script until SIGTERM or SIGINT; the URL is printed when it is ready."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with StandInModel(port=port, journal_file=journal_file, bodies=False) as model:
        print(model.url, flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted stand-in of the Messages API.")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--journal", type=Path, help="a file for JSON lines, appended")
    told = parser.parse_args()
    asyncio.run(serve(told.port, told.journal))


if __name__ == "__main__":
    main()
