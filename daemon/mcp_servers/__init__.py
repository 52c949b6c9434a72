"""MCP servers of the configuration: the daemon's own children, outside the walls, with secrets of
their own. An agent has their tools by way of the daemon, and never them.

`server` starts one, keeps it and ends it; `connection` speaks to it, and is the only part that
loads the `mcp` package; `servers` is the port that the agents and the flow see.
"""

from __future__ import annotations

from daemon.mcp_servers.server import McpServer
from daemon.mcp_servers.servers import McpServers

__all__ = ["McpServer", "McpServers"]
