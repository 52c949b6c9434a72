"""What may lie behind the gateway: Anthropic's API or one like it, Bedrock, Vertex."""

from __future__ import annotations

import importlib

from daemon.clock import Clock
from daemon.config import AgentTable
from daemon.errors import ConfigError
from daemon.gateway.upstreams.anthropic import Anthropic
from daemon.gateway.upstreams.bedrock import Bedrock
from daemon.gateway.upstreams.dialect import (
    Dialect,
    GarbledError,
    KeyRefusedError,
    Order,
    Reader,
    Upstream,
    Wish,
)

__all__ = [
    "Dialect",
    "GarbledError",
    "KeyRefusedError",
    "Order",
    "Reader",
    "Upstream",
    "Wish",
    "dialect_of",
    "open_dialect",
]


def dialect_of(table: AgentTable, clock: Clock) -> Dialect:
    """As the configuration has it, its key read. Raises ConfigError."""
    upstream = Upstream(
        table.upstream, table.api_url or "", table.region, table.project, table.models
    )
    try:
        return open_dialect(upstream, table.api_key.reveal(), clock)
    except ValueError as error:
        raise ConfigError(f"agent.api_key: {error}") from error


def open_dialect(upstream: Upstream, key: str, clock: Clock) -> Dialect:
    """Raises ValueError, with a sentence, for a key that is none of this upstream's."""
    if upstream.kind == "bedrock":
        return Bedrock(upstream, key, clock)
    if upstream.kind == "vertex":  # what signs for Google is not loaded for anybody else
        vertex = importlib.import_module("daemon.gateway.upstreams.vertex")
        opened: Dialect = vertex.Vertex(upstream, key, clock)
        return opened
    return Anthropic(upstream, key)
