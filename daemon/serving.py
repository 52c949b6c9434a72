"""Serves an application, within limits that no client can overstep: time, size and number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

HEAD_SECONDS = 10.0  # from the beginning of a connection to the end of its request's head
BODY_SECONDS = 2.0  # for what is left of a request's body once it is answered
ANSWER_SECONDS = 60.0  # for a client to take its answer; see `cut_off`
MAX_CONNECTIONS = 256
MAX_HEADER_BYTES = 8190  # of a request's line, and of a header
MAX_BODY_BYTES = 64 * 1024

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

# aiohttp logs a stack for whatever is no HTTP, as anybody may send it; defects of ours do not get
# so far.
_unheard = logging.getLogger("daemon.serving.clients")
_unheard.setLevel(logging.CRITICAL + 1)


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Within it the application answers; gives the port. Raises OSError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_unheard,
        shutdown_timeout=1,
        keepalive_timeout=HEAD_SECONDS,  # aiohttp's clock for a connection without a whole head
        lingering_time=BODY_SECONDS,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - it was set up

    def protocol() -> asyncio.Protocol:
        return server() if len(server.connections) < MAX_CONNECTIONS else _Full()

    try:
        listener = await asyncio.get_running_loop().create_server(protocol, host, port)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def cut_off(request: web.Request) -> None:
    """End the request's connection after ANSWER_SECONDS, however little of the answer was taken.
    It must be the connection's last request.
    """
    if request.transport is not None:
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, request.transport.abort)


class _Full(asyncio.Protocol):
    """For a connection more than there may be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream
        transport.write(_FULL)
        transport.close()
