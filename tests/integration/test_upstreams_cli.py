"""The real CLI and the clouds: through the gateway, and, as a check of the stand-ins, by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from daemon.agents.claude import bundled_cli
from daemon.demo.clouds import StandInBedrock, StandInVertex
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.gateway import Outcome
from tests.agent_stages import MEMBER, RealStage, answer
from tests.contract.test_upstreams import ACCESS, API_KEY, KINDS, Kind
from tests.integration.gateway_help import KEY, MODEL, turn

pytestmark = pytest.mark.cli

COLON = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
CLOUDS = {name: kind for name, kind in KINDS.items() if name != "anthropic"}


def made(root: Path) -> list[Path]:
    return list(root.rglob("made.txt"))


@pytest.mark.parametrize("kind", CLOUDS.values(), ids=CLOUDS.keys())
async def test_an_agent_works_behind_a_cloud_as_behind_the_api(tmp_path: Path, kind: Kind) -> None:
    async with kind.rig() as world:
        port = world.gateway.port
        stage = RealStage(world.model, tmp_path, gateway_port=port, experiments=False)
        token = world.token(turn())
        agent = await stage.agents.start(stage.agents.new_workspace(), MEMBER, token, stage.gate)
        try:
            end = await answer(agent, stage.runs("echo worked > made.txt", "done"))
        finally:
            await agent.close()
        await world.gateway.close_turn(token)
        assert (end.text, end.error) == ("done", None)
        assert world.outcomes() == [Outcome.OK, Outcome.OK], "nothing had to be asked twice"
    assert [path.read_text() for path in made(tmp_path)] == ["worked\n"]


# --- the CLI's own way: its clients are the clouds' published ones --------------------------------


async def by_itself(
    home: Path, environment: Mapping[str, str], model: str = MODEL
) -> tuple[str, bool]:
    """What the CLI says that asks a cloud without the gateway, and whether it is an error."""
    process = await asyncio.create_subprocess_exec(
        *(str(bundled_cli()), "-p", "[[say:good morning]]", "--model", model),
        *("--output-format", "json", "--tools", "Bash", "--setting-sources", ""),
        cwd=home,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / "config"),
            "TMPDIR": str(home),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            **environment,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = json.loads(out)
    return str(said["result"]), bool(said["is_error"])


@pytest.mark.parametrize("signs", [True, False])
async def test_the_cli_takes_the_stand_in_for_bedrock(tmp_path: Path, signs: bool) -> None:
    """Its signature (of a path with a colon, too), its body, and what it makes of the stream."""
    key = {"AWS_BEARER_TOKEN_BEDROCK": API_KEY}
    if signs:
        key = {
            "AWS_ACCESS_KEY_ID": ACCESS.id,
            "AWS_SECRET_ACCESS_KEY": ACCESS.secret,
            "AWS_SESSION_TOKEN": ACCESS.session_token,
        }
    async with (
        StandInModel(directed, api_key=KEY) as model,
        StandInBedrock(
            model.url,
            KEY,
            key=ACCESS if signs else API_KEY,
            models={COLON: "claude-haiku-4-5"},
        ) as cloud,
    ):
        place = {"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BEDROCK_BASE_URL": cloud.url}
        told = await by_itself(tmp_path, {**place, **key, "AWS_REGION": cloud.region}, COLON)
        assert told == ("good morning", False)
        assert cloud.asked


async def test_the_cli_takes_the_stand_in_for_vertex(tmp_path: Path) -> None:
    """Its address and its body; where it has its tokens from cannot be set."""
    async with (
        StandInModel(directed, api_key=KEY) as model,
        StandInVertex(model.url, KEY) as cloud,
    ):
        cloud.tokens.append("ya29.given-by-hand")
        told = await by_itself(
            tmp_path,
            {
                "CLAUDE_CODE_USE_VERTEX": "1",
                "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1",
                "ANTHROPIC_CUSTOM_HEADERS": "authorization: Bearer ya29.given-by-hand",
                "ANTHROPIC_VERTEX_BASE_URL": f"{cloud.url}/v1",
                "ANTHROPIC_VERTEX_PROJECT_ID": cloud.project,
                "CLOUD_ML_REGION": cloud.region,
            },
        )
        assert told == ("good morning", False)
        assert cloud.asked == 1
