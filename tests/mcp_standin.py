"""An MCP server for the tests, by the `mcp` package's own server side: `python mcp_standin.py`.

It keeps notes in memory, tells what it was started with, and can be made to misbehave.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolResult,
    ImageContent,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

NOTE = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}}
TOOLS = {
    "add": ("Add a note.", NOTE),
    "count": ("Count the notes.", NOTHING),
    "tell": ("Tell the secret, as no server should.", NOTHING),
    "started_with": ("Name the variables of the environment.", NOTHING),
    "long": ("Say very much.", NOTHING),
    "picture": ("Give a picture.", NOTHING),
    "fail": ("Say that it failed.", NOTHING),
    "hang": ("Never answer.", NOTHING),
    "die": ("End the process.", NOTHING),
}
notes: list[str] = []


async def list_tools(_context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
    """In two pages."""
    names = list(TOOLS)
    second = params is not None and params.cursor == "second"
    page = names[5:] if second else names[:5]
    tools = [
        Tool.model_validate({"name": name, "description": about, "inputSchema": schema})
        for name, (about, schema) in TOOLS.items()
        if name in page
    ]
    return ListToolsResult(tools=tools, next_cursor=None if second else "second")


async def call_tool(_context: Any, params: Any) -> CallToolResult:
    match params.name:
        case "add":
            notes.append(params.arguments["text"])
            return said(f"note {len(notes)}: {notes[-1]}")
        case "count":
            return said(str(len(notes)))
        case "tell":
            return said(f"it is {os.environ['NOTES_KEY']}")
        case "started_with":
            return said(json.dumps({"names": sorted(os.environ), "at": os.getcwd()}))  # noqa: PTH109
        case "long":
            return said("x" * 1_000_000)
        case "picture":
            picture = ImageContent(type="image", data="AAAA", mime_type="image/png")
            return CallToolResult(content=[picture, TextContent(type="text", text="a picture")])
        case "fail":
            return said("there is no such note", is_error=True)
        case "hang":
            await asyncio.Event().wait()
        case "die":
            os._exit(3)
    raise ValueError(params.name)


def said(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)


async def main() -> None:
    sys.stderr.write("the notes are open\n")
    server: Server[Any] = Server(
        "notes", version="1", on_list_tools=list_tools, on_call_tool=call_tool
    )
    async with stdio_server() as (heard, answers):
        await server.run(heard, answers, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
