"""What bubblewrap is asked to show, and what is said of a machine where it does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.isolation import namespaces
from daemon.isolation.walls import Grants

SYSTEMS = Path("/usr/bin/python3")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put_bwrap(place: Path, script: str) -> None:
    program = place / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_without_bubblewrap_its_package_is_named(place: Path) -> None:
    assert namespaces.missing() == "it needs bubblewrap (on Debian: apt-get install bubblewrap)"
    with pytest.raises(FileNotFoundError):
        namespaces.bubblewrap(Grants((), (), ()), SYSTEMS)


def test_refusal_of_a_machine_is_told_in_its_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)  # who is root tries it as somebody else
    put_bwrap(place, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    told = "this machine refuses namespaces (bwrap: No permissions to create new namespace)"
    assert namespaces.missing() == told
    put_bwrap(place, "exit 0")
    assert namespaces.missing() == ""


def test_only_what_is_granted_is_shown(place: Path) -> None:
    put_bwrap(place, "exit 0")
    work, file = place / "conversation" / "work", place / "cli"
    command = namespaces.bubblewrap(Grants((file,), (work,), (4711,)), SYSTEMS)
    shown = {command[i + 1] for i, word in enumerate(command) if word in {"--bind", "--ro-bind"}}
    assert shown == {str(file), str(work)}, "the system's own are shown at every level"
    assert command[command.index(str(work)) - 1] == "--bind"
    assert command[command.index(str(file)) - 1] == "--ro-bind"


def test_folder_is_mounted_before_what_lies_in_it(place: Path) -> None:
    put_bwrap(place, "exit 0")
    inner, outer = place / "a" / "b", place / "a"
    command = namespaces.bubblewrap(Grants((inner, outer), (), ()), SYSTEMS)
    assert command.index(str(outer)) < command.index(str(inner))
