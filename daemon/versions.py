"""Versions of all parts, without starting any of them."""

from __future__ import annotations

import importlib.metadata
import platform

from daemon.agents import cli_version
from daemon.ledger import engine_version

PARTS = ("claude-agent-sdk", "slack-bolt", "slack-sdk", "aioimaplib", "aiosmtplib", "aiohttp")


def versions() -> dict[str, str]:
    """Name -> version of Postroom, Python, the kernel, SQLite, the CLI and the packages."""
    found = {name: importlib.metadata.version(name) for name in ("postroom", *PARTS)}
    return {
        "postroom": found.pop("postroom"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sqlite": engine_version(),
        "claude-cli": cli_version(),
        **found,
    }
