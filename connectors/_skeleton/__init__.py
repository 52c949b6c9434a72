"""The smallest connector that works: a folder of text files in, text files out. Copy it to begin.

`[connectors.NAME] kind = "_skeleton"`. The steps are in docs/adding-a-connector.md.
"""

from __future__ import annotations

from connectors._skeleton.config import SkeletonTable
from daemon.plugin import Plugin, Surroundings
from daemon.ports import Connector


def build(name: str, table: SkeletonTable, around: Surroundings) -> Connector:
    # Imported late: checking a configuration needs no connector's packages.
    from connectors._skeleton.connector import SkeletonConnector  # noqa: PLC0415

    return SkeletonConnector(name, table, around)


PLUGIN = Plugin("_skeleton", SkeletonTable, build)
