"""Conversations with users of their own: the real CLI as them, and the daemon's hand over all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.isolation import users
from daemon.isolation.levels import LEVELS
from daemon.model import Prompt, Workspace
from tests.agent_stages import RealStage, answer, bash, new_uuid, real_stage, say, started
from tests.integration.isolation_help import home_at, passable_place

pytestmark = pytest.mark.cli

UID, LANDLOCK = LEVELS["uid"], LEVELS["landlock"]


@pytest.fixture
def data() -> Iterator[Path]:
    yield from (place / "data" for place in passable_place())


async def told(stage: RealStage, workspace: Workspace, text: str) -> str:
    async with started(stage, workspace) as agent:
        return (await answer(agent, Prompt(new_uuid(), text))).text


def owners(workspace: Workspace) -> set[int]:
    """Of the workspace and of all in it."""
    paths = [workspace.root, *workspace.root.rglob("*")]
    return {path.lstat().st_uid for path in paths}


async def test_each_conversation_has_its_user_and_nothing_of_anothers(data: Path) -> None:
    async with real_stage(data, level=UID) as stage:
        one, two = stage.agents.new_workspace(), stage.agents.new_workspace()
        user, group, *groups = (
            await told(stage, one, bash("id -u; id -g; id -G; touch mine"))
        ).split()
        assert user == group
        assert set(groups) == {user, str(users.PASSAGE)}
        await told(stage, two, bash("touch mine"))
        assert owners(one) == {int(user)}
        assert len(owners(two)) == 1
        assert owners(one) != owners(two)
        seen = await told(stage, two, bash(f"stat {one.work}/mine 2>&1; ls {data} 2>&1"))
        assert seen.count("Permission denied") == 2


async def test_user_stays_for_as_long_as_the_workspace(data: Path) -> None:
    async with real_stage(data, level=UID) as stage:
        workspace, other = stage.agents.new_workspace(), stage.agents.new_workspace()
        await told(stage, workspace, say("first"))
        await told(stage, other, say("first"))
        before = owners(workspace), owners(other)
        await asyncio.to_thread(stage.agents.erase, other)
        assert not other.root.exists()
    async with real_stage(data, level=UID) as stage:
        fresh = stage.agents.new_workspace()
        await told(stage, fresh, say("second"))
        await told(stage, workspace, say("second"))
        assert owners(workspace) == before[0]
        assert len({*owners(fresh), *owners(workspace)}) == 2


async def test_workspace_comes_from_another_level_and_goes_back(data: Path) -> None:
    """So does one that a backup restored: it is the daemon's own."""
    async with real_stage(data, level=LANDLOCK) as stage:
        workspace = stage.agents.new_workspace()
        await told(stage, workspace, bash("mkdir d; echo note > d/note; ln -s /etc/passwd link"))
    for level, whose in ((UID, "a user"), (LANDLOCK, "the daemon"), (UID, "a user")):
        async with real_stage(data, level=level) as stage:
            assert stage.agents.has_transcript(workspace)
            seen = await told(stage, workspace, bash("cat d/note; echo more >> d/note"))
            assert seen.startswith("note")
            asked = [entry.ask.prompt for entry in stage.model.journal]
            assert len(stage.model.journal[-1].body["messages"]) > 2, f"resumed: {asked}"
        (owner,) = owners(workspace)
        assert (owner in users.NUMBERS) == (whose == "a user")
    assert os.stat("/etc/passwd").st_uid == 0, "behind a link nothing is handed over"  # noqa: PTH116


async def test_agent_within_namespaces_is_the_same_conversation_as_before() -> None:
    """It works, resumes what it began at another level, weighs what it weighs, and is gone."""
    for home in home_at("bwrap"):
        data, level = home.top.parent / "data", home.level
        async with real_stage(data, level=LANDLOCK) as stage:
            workspace = stage.agents.new_workspace()
            await told(stage, workspace, bash("echo note > note"))
        async with real_stage(data, level=level) as stage:
            async with started(stage, workspace) as agent:
                text = bash("cat note; echo more >> note; uname -n")
                seen = (await answer(agent, Prompt(new_uuid(), text))).text
                assert seen.split() == ["note", "postroom"]
                assert len(stage.model.journal[-1].body["messages"]) > 2, "resumed"
                assert stage.agents.memory_bytes(agent.process) > 50_000_000
                assert stage.agents.processes() == {workspace.id: agent.process}
            assert stage.is_gone(agent.process)
            await asyncio.to_thread(stage.agents.erase, workspace)
            assert not workspace.root.exists()


async def test_file_with_a_second_name_stays_whose_it_is(data: Path) -> None:
    elsewhere = data / "elsewhere"
    root = data / "root"
    (root / "folder").mkdir(parents=True)
    elsewhere.touch()
    os.link(elsewhere, root / "folder" / "linked")
    (root / "folder" / "own").touch()
    users.hand_over(root, users.PROOF_NUMBERS[0])
    assert elsewhere.stat().st_uid == os.geteuid()
    assert (root / "folder" / "own").stat().st_uid == users.PROOF_NUMBERS[0]
