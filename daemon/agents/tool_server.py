"""Our own tools as an MCP server within the daemon: a call goes to the gate, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import structlog
from mcp.server import Server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

from daemon.ports import ToolGate, ToolSpec

log = structlog.get_logger()

SERVER = "postroom"
_TOOL_USE_ID = "claudecode/toolUseId"  # in a call's _meta (measured, CLI 2.1.330)
_FAILED = "This tool failed. Nothing was done."


def full_name(spec: ToolSpec) -> str:
    """What the CLI calls one of our tools."""
    return f"mcp__{SERVER}__{spec.name}"


def tool_server(specs: Sequence[ToolSpec], gate: ToolGate) -> Server[Any]:
    """A server for one agent. Whatever goes wrong in a call, the model reads a plain sentence."""
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
        arguments = params.arguments or {}
        try:
            jsonschema.validate(instance=arguments, schema=spec.schema)
        except jsonschema.ValidationError as error:
            return _result(f"Input validation error: {error.message}", is_error=True)
        try:
            return _result(await gate.call(spec.name, arguments, tool_use_id))
        except Exception:  # the boundary to the model: no exception's text crosses it
            log.exception("tool.failed", tool=spec.name, tool_use_id=tool_use_id)
            return _result(_FAILED, is_error=True)

    return Server(SERVER, version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _result(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)
