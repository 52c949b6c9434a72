"""What is installed is ours, is whole, and names no place that only one machine knows."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"https?://[^\s\"'<>)\]}]+")
# Hosts of package indexes: a committed file that names one installs from it for everybody.
INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|/simple/|pythonhosted|registry\.npmjs")
HOME = re.compile(r"/(?:home|root|Users)/\w+")


def committed(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


def test_the_import_names_belong_to_this_distribution_alone() -> None:
    """Another distribution (python-daemon) has a package `daemon`: the later install would win."""
    others = [
        (distribution.name, str(file))
        for distribution in importlib.metadata.distributions()
        if distribution.name != "postroom"
        for file in distribution.files or ()
        if file.parts[0] in {"daemon", "connectors"}
    ]
    assert others == []
    assert importlib.metadata.distribution("postroom").version


def test_requirements_are_hashed_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert not INDEX.search(text), path.name
        assert not ADDRESS.search(text), path.name
        pins = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE | re.IGNORECASE)
        assert pins, path.name
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(pins), path.name


def test_every_dependency_is_locked_and_has_earned_its_place_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = (ROOT / "requirements/run.txt").read_text().lower()
    told = (ROOT / "docs/dependencies.md").read_text().lower()
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=]", requirement)[0]
        assert f"\n{name}==" in f"\n{locked}", name
        assert f"`{name}`" in told, name


def test_the_agent_sdk_is_pinned_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = (r for r in project["dependencies"] if r.startswith("claude-agent-sdk"))
    assert re.fullmatch(r"claude-agent-sdk==\d+\.\d+\.\d+", pin)


def test_no_committed_file_names_an_index_or_a_persons_home() -> None:
    for path in committed(".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".txt", ""):
        if path == Path(__file__):
            continue
        text = path.read_text("utf-8", "replace")
        assert not INDEX.search(text), path
        assert not HOME.search(text), path
