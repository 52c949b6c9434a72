"""The whole daemon with its model on Bedrock and on Vertex."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.clouds import StandInBedrock, StandInVertex
from daemon.demo.model import StandInModel
from daemon.demo.slack import StandInSlack
from tests.contract.test_upstreams import ACCESS, access_file
from tests.e2e.conftest import MODEL_KEY, NewDaemon
from tests.e2e.looking import files_below

pytestmark = pytest.mark.e2e

BEA, GENERAL = "U0002", "C0001"
MODEL, PROFILE = "claude-sonnet-5", "us.anthropic.claude-sonnet-5"
WORK = json.dumps({"command": "echo worked"})


@pytest.fixture(params=["bedrock", "vertex"])
async def cloud(
    request: pytest.FixtureRequest, model: StandInModel, tmp_path: Path
) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """The table `agent` for a cloud, and what of its key must not be found anywhere."""
    key = tmp_path / "credentials.json"
    async with AsyncExitStack() as stack:
        if request.param == "bedrock":
            door = StandInBedrock(model.url, MODEL_KEY, key=ACCESS, models={PROFILE: MODEL})
            bedrock = await stack.enter_async_context(door)
            key.write_text(access_file(ACCESS))
            table = {"api_url": bedrock.url, "region": bedrock.region, "models": {MODEL: PROFILE}}
            secret = ACCESS.secret
        else:
            vertex = await stack.enter_async_context(StandInVertex(model.url, MODEL_KEY))
            key.write_text(vertex.key_file())
            table = {"api_url": vertex.url, "region": vertex.region}
            secret = json.loads(vertex.key_file())["private_key"].splitlines()[5]
        table |= {"upstream": request.param, "api_key": {"file": str(key)}}
        yield table, secret


async def test_an_agent_works_and_nothing_of_the_credentials_is_found(
    new_daemon: NewDaemon,
    slack: StandInSlack,
    model: StandInModel,
    cloud: tuple[dict[str, Any], str],
) -> None:
    table, secret = cloud
    async with new_daemon(agent=table, daemon={"log_level": "debug"}) as daemon:
        said = slack.mention(BEA, GENERAL, f"[[tool:Bash {WORK}]]")
        assert (await slack.wait_for_answer(said, within=60)).text == "worked"
        _, page = await daemon.get("/healthz")
        assert page["components"]["model"]["state"] == "pass"
        _, metrics = await daemon.get("/metrics")
        assert 'postroom_model_requests_total{outcome="ok"} 2.0' in metrics
    for path in (daemon.log, *files_below(daemon.data)):
        assert secret.encode() not in path.read_bytes(), path
