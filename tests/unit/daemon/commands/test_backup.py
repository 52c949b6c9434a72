from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from daemon import config as configuration
from daemon.agents.workspaces import remove_tree
from daemon.clock import ManualClock
from daemon.commands.backup import back_up
from daemon.errors import NotReachable, PostroomError
from daemon.ledger import open_ledger
from daemon.model import ConversationId
from tests.ledgers import IMPLEMENTATIONS, Stage

TOKENS = {"app_token": {"env": "SLACK_APP_TOKEN"}, "bot_token": {"env": "SLACK_BOT_TOKEN"}}


def config(data: Path) -> configuration.Config:
    return configuration.parse(
        {"daemon": {"data_dir": str(data)}, "connectors": {"slack": {"kind": "slack", **TOKENS}}}
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def lived_in(data: Path) -> Stage:
    """A data directory as a daemon at work leaves it, open."""
    clock = ManualClock()
    stage = Stage(IMPLEMENTATIONS[0], data, await open_ledger(data, clock), clock)
    turn = await stage.running()
    for file, text in {
        turn.workspace.config / "projects" / "p" / "session.jsonl": "transcript",
        turn.workspace.work / "tmp" / "kept.txt": "the agent's own folder",
        turn.workspace.tmp / "scratch": "gone",
        data / "raw" / "mail" / "1": "raw",
        data / "slack" / "bot.json": "{}",
        data / "processes" / "ws-t1" / "plan.json": "a token",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (turn.workspace.work / "link").symlink_to("/etc/passwd")
    os.mkfifo(turn.workspace.work / "pipe")
    with socket.socket(socket.AF_UNIX) as lane:
        lane.bind(str(turn.workspace.work / "lane"))
    return stage


async def test_a_backup_holds_all_that_a_daemon_needs_and_nothing_of_processes(
    tmp_path: Path,
) -> None:
    stage = await lived_in(tmp_path / "data")
    copy = tmp_path / "deep" / "copy"
    await back_up(config(tmp_path / "data"), copy)
    await stage.ledger.close()
    files = {str(path.relative_to(copy)) for path in copy.rglob("*") if not path.is_dir()}
    home = "conversations/ws-t1"
    assert files == {
        "ledger.db",
        "raw/mail/1",
        "slack/bot.json",
        f"{home}/config/projects/p/session.jsonl",
        f"{home}/work/tmp/kept.txt",
        f"{home}/work/link",
    }
    assert (copy / home / "work" / "link").is_symlink(), "never what a link points to"
    assert (copy / home / "tmp").is_dir(), "its next process needs it"
    assert copy.stat().st_mode & 0o777 == 0o700
    restored = await open_ledger(copy, ManualClock())
    (turn,) = await restored.interrupted()
    assert turn.workspace.root == copy / home
    assert await restored.workspace(ConversationId("t1")) == turn.workspace
    await restored.close()


@pytest.mark.parametrize(("name", "times"), [("d", 1200), ("d" * 250, 20)])
async def test_folders_without_end_are_left_out_and_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, times: int
) -> None:
    stage = await lived_in(tmp_path / "data")
    endless = tmp_path / "data" / "conversations" / "ws-t1" / "work" / "endless"
    endless.mkdir()
    folder = os.open(endless, os.O_RDONLY)
    for _ in range(times):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        await back_up(config(tmp_path / "data"), tmp_path / "copy")
    finally:
        remove_tree(endless)  # pytest's own way out is not made for it
    await stage.ledger.close()
    assert (tmp_path / "copy" / "ledger.db").exists()
    assert (tmp_path / "copy" / "conversations" / "ws-t1" / "work" / "link").is_symlink()
    assert f"{endless}" in capsys.readouterr().err


async def test_what_is_there_already_is_not_touched(tmp_path: Path) -> None:
    stage = await lived_in(tmp_path / "data")
    taken = tmp_path / "taken"
    taken.mkdir()
    for target, why in ((taken, "exists already"), (tmp_path / "data" / "x", "lies in the data")):
        with pytest.raises(PostroomError, match=why) as refused:
            await back_up(config(tmp_path / "data"), target)
        assert refused.value.exit_code == 2
    await stage.ledger.close()
    assert list(taken.iterdir()) == []


async def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    stage = await lived_in(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PostroomError, match="cannot be written"):
        await back_up(config(tmp_path / "data"), tmp_path / "file" / "copy")
    await stage.ledger.close()
    assert names(tmp_path) == {"data", "file"}


async def test_where_there_is_no_ledger_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="no ledger yet"):
        await back_up(config(tmp_path / "data"), tmp_path / "copy")
