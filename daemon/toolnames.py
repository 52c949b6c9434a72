"""What the CLI calls the tools of MCP servers: ours, and those of the configuration. Pure."""

from __future__ import annotations

import re

OURS = "postroom"  # the server within the daemon, for tools of connectors

SERVER = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SERVED = re.compile(rf"mcp__({SERVER.pattern})__([A-Za-z0-9_-]{{1,64}})")


def full_name(server: str, tool: str) -> str:
    """The CLI's name of a server's tool."""
    return f"mcp__{server}__{tool}"


def served(name: str) -> tuple[str, str] | None:
    """The server of the configuration and its tool that a name stands for; None: it is none."""
    found = _SERVED.fullmatch(name)
    return (found[1], found[2]) if found and found[1] != OURS else None
