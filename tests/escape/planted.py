"""What of the plants a CLI takes up at its next start: as the daemon starts it, and undefended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from claude_agent_sdk import ClaudeSDKClient

from daemon.agents.claude import bundled_cli
from daemon.agents.options import agent_environment, client_options
from daemon.demo.model import StandInModel
from daemon.isolation.levels import LEVELS
from daemon.isolation.plan import Plan, write_launcher
from daemon.model import Prompt, Workspace
from tests.agent_stages import MEMBER, PATIENCE_SECONDS, RealStage, answer, bash, new_uuid, started
from tests.escape.plants import WORDS

HEADING = "S7 what is planted"
NO_TRACE = "no trace"


async def defended(stage: RealStage, workspace: Workspace, thief: StandInModel) -> dict[str, str]:
    """The next turn in this workspace, started as the daemon starts it."""
    async with started(stage, workspace) as agent:
        await answer(agent, Prompt(new_uuid(), bash("true")))
    return _marks(stage, workspace, thief)


async def undefended(stage: RealStage, workspace: Workspace, thief: StandInModel) -> dict[str, str]:
    """The same by the same CLI, which takes up what it does by default."""
    plan = Plan.for_conversation(
        level=LEVELS["none"],
        command=bundled_cli(),
        root=workspace.root,
        gateway_port=stage.settings.gateway_port,
        pid_file=workspace.root / "undefended.pid",
        env={
            **agent_environment(stage.settings, "a-token"),
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "0",
        },
    )
    options = client_options(
        stage.settings,
        workspace,
        MEMBER,
        launcher=write_launcher(plan, workspace.root / "undefended"),
        resume=True,
        specs=(),
        granted={},
        gate=stage.gate,
        on_stderr=lambda _: None,
    )
    open_wide = replace(
        options, setting_sources=["user", "project", "local"], strict_mcp_config=False
    )
    async with asyncio.timeout(PATIENCE_SECONDS), ClaudeSDKClient(open_wide) as client:
        await client.query(bash("true"))
        async for _ in client.receive_response():
            pass
    return _marks(stage, workspace, thief)


def _marks(stage: RealStage, workspace: Workspace, thief: StandInModel) -> dict[str, str]:
    asked = json.dumps([entry.body for entry in (*stage.model.journal, *thief.journal)])
    taken_up = {
        "run a hook planted in the workspace": _ran(workspace, "project-hook-ran"),
        "run a hook planted in the CLI's settings": _ran(workspace, "user-hook-ran"),
        "start a server planted in the workspace": _ran(workspace, "project-server-ran"),
        "start a server planted in the CLI's state": _ran(workspace, "user-server-ran"),
        "send the model's requests elsewhere": bool(thief.journal),
        "speak through a CLAUDE.md in the workspace": f"{WORDS}-project" in asked,
        "speak through a CLAUDE.md of the CLI's": f"{WORDS}-user" in asked,
        "speak through planted memory": f"{WORDS}-memory" in asked,
    }
    return {name: "open" if taken else NO_TRACE for name, taken in taken_up.items()}


def _ran(workspace: Workspace, mark: str) -> bool:
    return Path(workspace.work, mark).exists()
