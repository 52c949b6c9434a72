"""The pages are true: their links lead somewhere, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.config import Config, McpTable, ProfileTable
from daemon.plugin import load

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
SOURCE = re.compile(r"`((?:daemon|connectors|deploy|tests|docs)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_named_file_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in SOURCE.findall(text) if not (ROOT / path).exists()] == []


def test_every_file_that_the_code_refers_to_is_there() -> None:
    named = re.compile(r"\b((?:docs|tests|deploy)/[\w./-]+\.(?:md|py|sh|yaml))")
    lost = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("daemon", "connectors")
        for path in (ROOT / folder).rglob("*.py")
        for name in named.findall(path.read_text())
        if not (ROOT / name).exists()
    }
    assert lost == set()


def test_every_key_of_the_configuration_is_told() -> None:
    """docs/configuration.md names each table and key that is read, and no other."""
    text = (ROOT / "docs/configuration.md").read_text()
    told = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    tables = {name: field.annotation for name, field in Config.model_fields.items()}
    read = set()
    for table, model in tables.items():
        if table in {"connectors", "profiles", "mcp"}:
            continue
        read |= {f"{table}.{key}" for key in model.model_fields}  # type: ignore[union-attr]
    labels = ("public", "member", "operator")
    read |= {f"profiles.{label}.{key}" for label in labels for key in ProfileTable.model_fields}
    read |= {f"mcp.{key}" for key in McpTable.model_fields}
    for kind in ("slack", "imap"):
        read |= {f"{kind}.{key}" for key in load(kind).table.model_fields if key != "kind"}
    assert told == read
