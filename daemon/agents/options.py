"""How an agent's CLI is started: its options and its environment. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_agent_sdk import ClaudeAgentOptions, McpSdkServerConfig

from daemon.agents.asking import asking
from daemon.agents.tool_server import own_tools, served_tools
from daemon.isolation.levels import Level
from daemon.model import Profile, Trust, Workspace
from daemon.ports import ToolGate, ToolServers, ToolSpec
from daemon.toolnames import OURS, full_name, served


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What all agents of a daemon share. Byte for byte the same prompt and tools within a profile
    let their conversations share the model's prompt cache.

    `level` is an isolation level that has been proven; `data_dir` is absolute. `max_line_bytes`
    bounds one message of the CLI (the SDK's default of 1 MiB kills its reader: measured). A process
    that says nothing for `quiet_seconds` of a turn has to answer within `answer_seconds`.
    `egress_port` is the egress proxy's; None: there is none. `experiments` says whether the API may
    be asked for what only Anthropic's own has.
    """

    model: str
    system_prompt: str
    max_turns: int
    level: Level
    gateway_port: int
    data_dir: Path
    egress_port: int | None = None
    experiments: bool = True
    model_retries: int = 3
    max_line_bytes: int = 32 << 20
    start_seconds: float = 60.0
    quiet_seconds: float = 30.0
    answer_seconds: float = 30.0


def offered_tools(specs: Sequence[ToolSpec], profile: Profile) -> tuple[ToolSpec, ...]:
    """Those of our tools that an agent gets: all of them, but a stranger's only what is named."""
    if profile.trust is not Trust.PUBLIC:
        return tuple(specs)
    return tuple(spec for spec in specs if spec.name in profile.tools)


def granted_tools(servers: ToolServers, profile: Profile) -> Mapping[str, Sequence[ToolSpec]]:
    """Of each MCP server the tools that a profile names. One that its server has not listed yet is
    there by its name: a call tells why it cannot be used.
    """
    found: dict[str, list[ToolSpec]] = {}
    for name in profile.tools:
        if (parts := served(name)) is not None:
            server, tool = parts
            known = servers.specs(server).get(tool)
            bare = ToolSpec(tool, f"The tool {tool} of {server}.", {"type": "object"}, answer="")
            found.setdefault(server, []).append(known or bare)
    return found


def client_options(
    settings: AgentSettings,
    workspace: Workspace,
    profile: Profile,
    *,
    launcher: Path,
    resume: bool,
    specs: Sequence[ToolSpec],
    granted: Mapping[str, Sequence[ToolSpec]],
    gate: ToolGate,
    on_stderr: Callable[[str], None],
) -> ClaudeAgentOptions:
    """The options of one agent; why each is set: docs/agent.md."""
    ours = offered_tools(specs, profile)
    named = [name for name in profile.tools if name not in {spec.name for spec in specs}]
    free = [name for name in named if name not in profile.ask]
    instances = {name: served_tools(name, tools, gate) for name, tools in granted.items()}
    if ours:
        instances[OURS] = own_tools(ours, gate)
    servers = {
        name: McpSdkServerConfig(type="sdk", name=name, instance=instance)
        for name, instance in instances.items()
    }
    return ClaudeAgentOptions(
        resume=workspace.session if resume else None,
        session_id=None if resume else workspace.session,
        cwd=workspace.work,
        cli_path=launcher,
        model=settings.model,
        system_prompt={"type": "custom", "prompt": settings.system_prompt, "snapshot": True},
        tools=[name for name in named if served(name) is None],
        # What is listed runs without asking, as the walls hold it; all else is denied, but for what
        # a hook allows, call by call.
        allowed_tools=[*free, *(full_name(OURS, spec.name) for spec in ours)],
        permission_mode="dontAsk",
        hooks=asking(profile, gate),
        setting_sources=[],  # nothing that lies in a workspace configures its agent
        strict_mcp_config=True,
        mcp_servers={**servers},
        max_turns=settings.max_turns,
        max_buffer_size=settings.max_line_bytes,
        verbatim_prompts=True,  # what people write expands no @path and runs no /command
        include_partial_messages=True,
        stderr=on_stderr,
        settings=json.dumps({"cleanupPeriodDays": 3650}),  # retention is the daemon's
    )


def agent_environment(settings: AgentSettings, token: str) -> Mapping[str, str]:
    """What the plan adds to the variables that follow from the directories and the port."""
    plain = {} if settings.experiments else {"CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1"}
    return {
        **plain,
        "ANTHROPIC_API_KEY": token,
        "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(settings.model_retries),
        "API_TIMEOUT_MS": "120000",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "32000",  # what the gateway lets an answer have (body.py)
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "30000",
        "MCP_TOOL_TIMEOUT": "60000",
        # These start turns of their own, or make a later resume odd.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # What would make each request longer, or differ between conversations.
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    }


def egress_environment(port: int, token: str) -> Mapping[str, str]:
    """How a shell's programs find the egress proxy. The CLI finds it, too: not for the gateway."""
    proxy, direct = f"http://postroom:{token}@127.0.0.1:{port}", "127.0.0.1,localhost"
    named = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": direct}
    lower = {name.lower(): value for name, value in named.items()}  # curl reads only http_proxy
    return {**named, **lower, "NODE_USE_ENV_PROXY": "1"}
