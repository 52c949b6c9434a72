"""Where the agents are opened: the only module of the daemon that loads the agent SDK.

It is imported in a thread when the pool starts, as the SDK takes half a second to import and
intake must not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemon.agents.claude import ClaudeAgents
from daemon.agents.options import AgentSettings
from daemon.config import Config
from daemon.isolation.levels import Level
from daemon.ports import Agents, ToolServers, ToolSpec


def open_agents(
    config: Config,
    level: Level,
    gateway_port: int,
    tools: Sequence[ToolSpec],
    servers: ToolServers,
    *,
    egress_port: int | None,
) -> Agents:
    """The agents of a daemon, at an isolation level that has been proven."""
    settings = AgentSettings(
        model=config.agent.model,
        system_prompt=config.agent.prompt(),
        max_turns=config.agent.max_turns,
        level=level,
        gateway_port=gateway_port,
        data_dir=config.daemon.data_dir.resolve(),
        egress_port=egress_port,
        experiments=config.agent.upstream == "anthropic",
    )
    return ClaudeAgents(settings, tools, servers)
