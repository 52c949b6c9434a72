from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.agents.workspaces import (
    DEEPEST,
    LEAST_BYTES,
    make_workspace,
    remove_tree,
    tree_bytes,
    workspaces_in,
)

NOBODY = 65534
MB = 2**20


def test_a_workspace_is_for_us_alone_and_has_a_session_of_its_own(tmp_path: Path) -> None:
    one, other = make_workspace(tmp_path / "c"), make_workspace(tmp_path / "c")
    assert (one.id, one.session) != (other.id, other.session)
    for folder in (one.root, one.work, one.config, one.home, one.tmp):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_found_and_links_are_none_of_it(tmp_path: Path) -> None:
    made = make_workspace(tmp_path)
    (tmp_path / "ws-file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "ws-link").symlink_to(made.root)
    ((found, made_at),) = workspaces_in(tmp_path).items()
    assert (found.id, found.root) == (made.id, made.root)
    assert made_at == made.root.stat().st_mtime
    assert workspaces_in(tmp_path / "nowhere") == {}


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    made = make_workspace(tmp_path / "c")
    (made.work / "link").symlink_to(outside)
    (made.work / "file").symlink_to(outside / "kept")
    remove_tree(made.root)
    assert not made.root.exists()
    linked = tmp_path / "linked"
    linked.symlink_to(outside)
    remove_tree(linked)
    remove_tree(tmp_path / "nowhere")
    assert not linked.is_symlink()
    assert (outside / "kept").exists()


@pytest.fixture
def common_folder() -> Iterator[Path]:
    """A folder of somebody who is refused things; root never is, and becomes nobody for a while."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def test_what_an_agent_locked_is_removed_all_the_same(common_folder: Path) -> None:
    outside = common_folder / "outside"
    outside.mkdir(mode=0o500)
    made = make_workspace(common_folder)
    inner = made.work / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (made.work / "a" / "link").symlink_to(outside)
    for folder in (inner, inner.parent, made.work):
        folder.chmod(0)
    remove_tree(made.root)
    assert not made.root.exists()
    assert outside.stat().st_mode & 0o777 == 0o500, "what a link points to is not touched"


def test_what_an_agent_nested_deeper_than_one_can_go_is_removed_all_the_same(
    tmp_path: Path,
) -> None:
    made = make_workspace(tmp_path)
    folder = os.open(made.work, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        remove_tree(made.root)
        assert not made.root.exists()
    finally:  # what stays would break pytest's own clearing up, of later runs as well
        subprocess.run(["rm", "-rf", str(made.root)], check=True)


def test_what_is_on_the_disk_is_counted_once_and_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(4 * MB))
    made = make_workspace(tmp_path / "c")
    bare = tree_bytes(made.root)
    assert bare is not None
    (made.work / "deep").mkdir()
    file = made.work / "deep" / "file"
    file.write_bytes(bytes(MB))
    (made.tmp / "the same").hardlink_to(file)
    (made.work / "link").symlink_to(outside)
    (made.work / "folder").symlink_to(tmp_path)
    with (made.config / "holes").open("wb") as holes:
        holes.truncate(100 * MB)
    counted = tree_bytes(made.root)
    assert counted is not None
    assert MB <= counted - bare < 2 * MB


def test_files_without_a_byte_take_up_room_too(tmp_path: Path) -> None:
    made = make_workspace(tmp_path)
    before = tree_bytes(made.root)
    for number in range(50):
        (made.work / str(number)).touch()
    assert before is not None
    assert (tree_bytes(made.root) or 0) - before >= 50 * LEAST_BYTES


def test_nothing_is_hidden_in_a_folder_that_an_agent_shut_to_itself(common_folder: Path) -> None:
    made = make_workspace(common_folder)
    shut = made.work / "shut"
    shut.mkdir()
    (shut / "file").write_bytes(bytes(MB))
    shut.chmod(0)
    assert (tree_bytes(made.root) or 0) > MB
    assert shut.stat().st_mode & 0o777 == 0, "it stays as its agent wants it"


def test_nothing_is_hidden_further_down_than_one_can_look(tmp_path: Path) -> None:
    made = make_workspace(tmp_path)
    folder = made.work
    for _ in range(DEEPEST - 1):
        folder /= "d"
        folder.mkdir()
    assert tree_bytes(made.root) is not None
    (folder / "d" / "d").mkdir(parents=True)
    assert tree_bytes(made.root) is None
