"""The keys of a `[connectors.NAME]` table with `kind = "_skeleton"`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from daemon.plugin import ConnectorTable


class SkeletonTable(ConnectorTable):
    """`inbox` is looked into every `poll_seconds`; answers are written to `outbox`."""

    inbox: Path
    outbox: Path
    poll_seconds: float = Field(default=0.5, gt=0)
