"""The port `ToolServers`: all servers of the configuration by their names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from daemon.mcp_servers.server import McpServer
from daemon.model import JsonObject
from daemon.ports import ToolAnswer, ToolSpec


class McpServers:
    def __init__(self, servers: Iterable[McpServer]) -> None:
        self.by_name: Mapping[str, McpServer] = {server.name: server for server in servers}

    def specs(self, server: str) -> Mapping[str, ToolSpec]:
        return self.by_name[server].tools

    async def call(self, server: str, tool: str, arguments: JsonObject) -> ToolAnswer:
        return await self.by_name[server].call(tool, arguments)

    async def tried(self, seconds: float) -> None:
        """Until each has come up or failed to, and no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for server in self.by_name.values():
                    await server.tried.wait()
