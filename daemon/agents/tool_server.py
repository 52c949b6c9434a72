"""Tools as MCP servers within the daemon, as the CLI knows them: our own, and those of the
configuration's servers. A call goes to the gate, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import structlog
from mcp.server import Server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

from daemon.model import JsonObject
from daemon.ports import ToolAnswer, ToolGate, ToolSpec
from daemon.toolnames import OURS

log = structlog.get_logger()

Call = Callable[[ToolSpec, JsonObject, str], Awaitable[ToolAnswer]]
"""What becomes of a call: of which tool, with what, and its id."""

_TOOL_USE_ID = "claudecode/toolUseId"  # in a call's _meta (measured, CLI 2.1.330)
_FAILED = "This tool failed. Nothing was done."


def own_tools(specs: Sequence[ToolSpec], gate: ToolGate) -> Server[Any]:
    """Our own, for one agent."""
    return _server(OURS, specs, partial(_own, gate))


def served_tools(server: str, specs: Sequence[ToolSpec], gate: ToolGate) -> Server[Any]:
    """Those of one server that an agent may use: it knows of no other, and calls no other."""

    async def use(spec: ToolSpec, arguments: JsonObject, tool_use_id: str) -> ToolAnswer:
        return await gate.use(server, spec.name, arguments, tool_use_id)

    return _server(server, specs, use)


async def _own(
    gate: ToolGate, spec: ToolSpec, arguments: JsonObject, tool_use_id: str
) -> ToolAnswer:
    try:
        jsonschema.validate(instance=arguments, schema=spec.schema)
    except jsonschema.ValidationError as error:
        return ToolAnswer(f"Input validation error: {error.message}", failed=True)
    return ToolAnswer(await gate.call(spec.name, arguments, tool_use_id))


def _server(name: str, specs: Sequence[ToolSpec], call: Call) -> Server[Any]:
    """Whatever goes wrong in a call, the model reads a plain sentence."""
    by_name = {spec.name: spec for spec in specs}
    listed = ListToolsResult(
        tools=[
            Tool.model_validate(
                {"name": s.name, "description": s.description, "inputSchema": dict(s.schema)}
            )
            for s in specs
        ]
    )

    async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
        return listed

    async def call_tool(_context: Any, params: Any) -> CallToolResult:
        spec = by_name.get(params.name)
        tool_use_id = (params.meta or {}).get(_TOOL_USE_ID)
        # The staged effect is keyed by the id: without one nothing may be staged.
        if spec is None or not isinstance(tool_use_id, str) or not tool_use_id:
            log.error("tool.without_id", tool=params.name)
            return _result(_FAILED, is_error=True)
        try:
            answer = await call(spec, params.arguments or {}, tool_use_id)
        except Exception:  # the boundary to the model: no exception's text crosses it
            log.exception("tool.failed", tool=spec.name, tool_use_id=tool_use_id)
            return _result(_FAILED, is_error=True)
        return _result(answer.text, is_error=answer.failed)

    return Server(name, version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _result(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)
