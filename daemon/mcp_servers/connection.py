"""Speaks to one MCP server over its standard input and output, and reads what it answers.

Imported in a thread when the first server starts, as the `mcp` package takes long to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

import anyio
import mcp.types as mcp
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from daemon.errors import Unavailable
from daemon.logs import hidden
from daemon.model import JsonObject
from daemon.ports import ToolAnswer, ToolSpec

log = structlog.get_logger()

GREETING_SECONDS = 30.0
MOST_ANSWER = 60_000  # characters; the CLI itself takes some 25,000 tokens of an answer
MOST_DESCRIPTION = 4_000
PAGES = 20  # of a list of tools

Incoming: TypeAlias = MemoryObjectSendStream[SessionMessage | Exception]
Outgoing: TypeAlias = MemoryObjectReceiveStream[SessionMessage]


class Connection:
    """A server that has greeted. `tools` are those that it listed, by its own names."""

    def __init__(
        self, session: ClientSession, tools: Mapping[str, ToolSpec], listening: asyncio.Task[None]
    ) -> None:
        self.tools = tools
        self._session, self._listening = session, listening

    async def call(self, tool: str, arguments: JsonObject) -> ToolAnswer:
        """What it answers. Raises ConnectionError where it ends before, or whatever the `mcp`
        package does of an answer that is none.
        """
        try:
            result = await self._session.call_tool(tool, dict(arguments))
        except MCPError as error:
            if error.code == mcp.CONNECTION_CLOSED:
                raise ConnectionError from error
            return ToolAnswer(_readable(error.message), failed=True)  # its own word on the call
        assert isinstance(result, mcp.CallToolResult)  # noqa: S101 - nothing else is asked for
        return told(result)

    async def ended(self) -> None:
        """Return when the server says nothing any more."""
        await asyncio.wait({self._listening})


@contextlib.asynccontextmanager
async def connected(process: Process) -> AsyncIterator[Connection]:
    """Within it a server is spoken to. Raises Unavailable where it does not greet."""
    heard, to_read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_say, said = anyio.create_memory_object_stream[SessionMessage](0)
    listening = asyncio.create_task(_listen(process, heard))
    speaking = asyncio.create_task(_speak(process, said))
    try:
        failure: Unavailable | None = None
        async with ClientSession(to_read, to_say) as session:
            try:
                tools = await _greeted(session)
            except Unavailable as error:  # raised in here it would come out in a group
                failure = error
            else:
                yield Connection(session, tools, listening)
        if failure is not None:
            raise failure
    finally:
        listening.cancel()
        speaking.cancel()
        await asyncio.wait({listening, speaking})
        for stream in (heard, to_read, to_say, said):
            stream.close()


async def _greeted(session: ClientSession) -> Mapping[str, ToolSpec]:
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            await session.initialize()
            return await _listed(session)
    except TimeoutError:
        raise Unavailable(f"it did not greet within {GREETING_SECONDS:g} s") from None
    except (MCPError, RuntimeError, ValueError) as error:
        raise Unavailable(f"it did not greet: {type(error).__name__}") from error


async def _listed(session: ClientSession) -> Mapping[str, ToolSpec]:
    found: list[mcp.Tool] = []
    page = await session.list_tools()
    for _ in range(PAGES):
        found += page.tools
        if page.next_cursor is None:
            break
        page = await session.list_tools(params=mcp.PaginatedRequestParams(cursor=page.next_cursor))
    return {tool.name: _spec(tool) for tool in found}


def _spec(tool: mcp.Tool) -> ToolSpec:
    description = hidden(tool.description or tool.title or tool.name)[:MOST_DESCRIPTION]
    return ToolSpec(tool.name, description, tool.input_schema, answer="")


# --- what goes to and fro -------------------------------------------------------------------------


async def _listen(process: Process, heard: Incoming) -> None:
    """Until its output ends, or holds a line that is longer than any may be."""
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    async with heard:
        with contextlib.suppress(ValueError, anyio.BrokenResourceError):
            while line := await process.stdout.readline():
                if (message := _message(line)) is not None:
                    await heard.send(message)


def _message(line: bytes) -> SessionMessage | None:
    try:
        return SessionMessage(mcp.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:  # many print to their output what belongs into a log
        log.debug("mcp.no_message", bytes=len(line))
        return None


async def _speak(process: Process, said: Outgoing) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with a pipe
    async with said:
        with contextlib.suppress(ConnectionError):  # it has gone: its output ends, too
            async for item in said:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()


# --- what the model reads -------------------------------------------------------------------------


def told(result: mcp.CallToolResult) -> ToolAnswer:
    """An answer as text; of what is none the model learns that it was there."""
    parts = [
        content.text if isinstance(content, mcp.TextContent) else f"[{content.type}: left out]"
        for content in result.content
    ]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content)]
    return ToolAnswer(_readable("\n".join(parts)), failed=bool(result.is_error))


def _readable(text: str) -> str:
    """No longer than may be, and without the secrets that the daemon knows: these are looked for
    first, as the beginning of one that is cut in two would not be found.
    """
    if len(text) <= MOST_ANSWER:
        return hidden(text)
    begin = hidden(text[: 2 * MOST_ANSWER])[:MOST_ANSWER]
    return f"{begin}\n[cut off here: {len(text):,} characters in all]"
