"""Where agents come from: the ports `Agents` and `Agent`, over the claude CLI and over a script."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path


def cli_path() -> Path | None:
    """The CLI in the SDK's wheel, without importing the SDK (half a second); None: no SDK here."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "_bundled" / "claude"


def cli_version() -> str:
    """The version of the CLI in the SDK's wheel, without importing the SDK (half a second)."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return "missing"
    text = Path(spec.origin).with_name("_cli_version.py").read_text("utf-8")
    found = re.search(r'__cli_version__ = "([^"]+)"', text)
    return found[1] if found else "unknown"
