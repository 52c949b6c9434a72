"""The real CLI's own Bash, within its walls, before the egress proxy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.model import Profile, Prompt, Trust
from daemon.ports import TurnEnded
from tests.agent_stages import (
    MEMBER,
    RecordingGate,
    bash,
    new_uuid,
    play,
    real_stage,
    strongest_level,
)
from tests.integration.egress_help import HOST, Stand, proxied
from tests.integration.gateway_help import Rig, rig, turn
from tests.missing import missing

pytestmark = pytest.mark.cli

# As any program does it that reads HTTPS_PROXY; plain within the tunnel, for want of a certificate.
PROGRAM = """
import base64, http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
shown = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
for host, port in json:
    tunnel = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=10)
    tunnel.set_tunnel(host, port, {"Proxy-Authorization": f"Basic {shown}"})
    try:
        tunnel.connect()
        tunnel.sock.sendall(b"hello\\n")
        print(tunnel.sock.recv(100).decode().strip())
    except OSError as error:
        print(error)
"""


@pytest.fixture
async def gateway() -> AsyncIterator[Rig]:
    async with rig() as built:
        yield built


@pytest.fixture
async def stand(gateway: Rig) -> AsyncIterator[Stand]:
    async with proxied(gateway) as standing:
        yield standing


async def said(stand: Stand, gateway: Rig, data: Path, profile: Profile, command: str) -> str:
    """What a turn's Bash printed: of an agent that asks the model through the gateway."""
    async with real_stage(
        data, gateway_port=gateway.gateway.port, egress_port=stand.proxy.port
    ) as stage:
        token = gateway.gateway.issue()
        agent = await stage.agents.start(
            stage.agents.new_workspace(), profile, token, RecordingGate()
        )
        try:
            gateway.gateway.open_turn(token, turn(trust=profile.trust))
            end = (await play(agent, Prompt(new_uuid(), bash(command))))[-1]
            await gateway.gateway.close_turn(token)
        finally:
            await agent.close()
    assert isinstance(end, TurnEnded), end
    return end.text


def program(*destinations: tuple[str, int]) -> str:
    text = PROGRAM.replace("json", json.dumps(destinations))
    return f"python3 -c '{text}'"


async def test_a_shell_reaches_what_is_on_its_list_and_nothing_else(
    gateway: Rig, stand: Stand, tmp_path: Path
) -> None:
    profile = replace(MEMBER, egress=("an entry",))  # the proxy has the list itself
    asked = [(HOST, stand.outside.port), ("elsewhere.example", 443)]
    reached, refused = (await said(stand, gateway, tmp_path, profile, program(*asked))).splitlines()
    assert reached == "heard: hello"
    assert "403 This host and port are not on the list" in refused
    recorded = sorted(entry.what for entry in stand.audit.entries)
    assert recorded == ["egress.closed", "egress.opened", "egress.refused"]
    assert len(gateway.book.calls) == 2, "the CLI itself asks the model without the proxy"


async def test_without_a_list_there_is_neither_a_proxy_nor_a_way_to_it(
    gateway: Rig, stand: Stand, tmp_path: Path
) -> None:
    if strongest_level(tmp_path).name == "none":
        missing("a wall")
    command = (
        "env | grep -ic proxy; "
        f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {stand.proxy.port}))'"
        " 2>&1 | tail -n 1"
    )
    seen, refused = (await said(stand, gateway, tmp_path, MEMBER, command)).splitlines()
    assert seen == "0"
    assert refused == "PermissionError: [Errno 13] Permission denied"


async def test_programs_that_know_the_proxy_s_variables_find_it(
    gateway: Rig, stand: Stand, tmp_path: Path
) -> None:
    operator = Profile(Trust.OPERATOR, ("Bash",), egress=("an entry",))
    command = (
        "python3 -c 'import urllib.request; urllib.request.urlopen(\"https://a.example/\")'"
        " 2>&1 | tail -n 1"
    )
    told = await said(stand, gateway, tmp_path, operator, command)
    assert "403 This host and port are not on the list" in told
    (refused,) = await stand.audit.until("egress.refused")
    assert refused.facts["port"] == 443
