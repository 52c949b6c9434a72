"""Small JSON files in the connector's own folder of the data directory, each written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.files import write_file


def read(path: Path) -> Mapping[str, Any] | None:
    """What was kept; None where there is nothing that can be read. Blocking."""
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, Mapping) else None


def write(path: Path, kept: Mapping[str, Any]) -> None:
    """Blocking. Raises OSError; the file is then what it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(kept).encode())
