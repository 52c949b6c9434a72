"""Where agents come from: the ports `Agents` and `Agent`, over the claude CLI and over a script."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path


def cli_path() -> Path | None:
    """The CLI in the SDK's wheel; None: no SDK here."""
    sdk = _sdk()
    return sdk / "_bundled" / "claude" if sdk is not None else None


def cli_version() -> str:
    """The version of the CLI in the SDK's wheel."""
    sdk = _sdk()
    if sdk is None:
        return "missing"
    text = (sdk / "_cli_version.py").read_text("utf-8")
    found = re.search(r'__cli_version__ = "([^"]+)"', text)
    return found[1] if found else "unknown"


def _sdk() -> Path | None:
    """Where the SDK lies, without importing it (half a second)."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
