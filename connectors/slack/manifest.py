"""The app manifest that `postroom slack manifest` prints, to paste at api.slack.com/apps."""

from __future__ import annotations

from pathlib import Path


def manifest() -> str:
    """YAML, as it stands in manifest.yaml beside this file."""
    return Path(__file__).with_name("manifest.yaml").read_text("utf-8")
