"""How a connector is found: `connectors.<kind>.PLUGIN`, loaded by name and never scanned for."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from daemon.clock import Clock
from daemon.errors import ConfigError
from daemon.ports import Connector, Outbox

C = TypeVar("C", bound="ConnectorTable")

Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ConnectorTable(BaseModel):
    """The part of a `[connectors.NAME]` table that all kinds share; kinds add their own keys.
    `daily` is what all that comes this way may cost a UTC day, in US dollars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    daily: Dollars | None = None


async def nobody(_key: str, _text: str) -> None:
    """Tells nobody: where no daemon runs."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon gives a connector when it builds it.

    `operators` are the entries of `trust.operators`, as written ("slack:T1:U1", "mail:a@b").
    `data_dir` is where raw forms may be kept, in a folder of the connector's own name.
    `tell(key, text)` tells the people of `daemon.notify`, once for a key; it never raises, and is
    not for the time before `run`.
    """

    clock: Clock
    outbox: Outbox
    data_dir: Path
    operators: frozenset[str]
    tell: Callable[[str, str], Awaitable[None]] = nobody


@dataclass(frozen=True, slots=True)
class Plugin(Generic[C]):
    """What a connector folder exports as `PLUGIN`. `manifest` is a text to set its app up with."""

    kind: str
    table: type[C]
    build: Callable[[str, C, Surroundings], Connector]
    manifest: Callable[[], str] | None = None


def load(kind: str) -> Plugin[ConnectorTable]:
    """The plugin of a kind. Raises ConfigError for a kind that does not exist."""
    if not kind.isidentifier():
        raise ConfigError(f"kind = {kind!r} is not the name of a connector")
    try:
        module = importlib.import_module(f"connectors.{kind}")
    except ModuleNotFoundError as error:
        if error.name != f"connectors.{kind}":
            raise
        raise ConfigError(f"kind = {kind!r}: there is no such connector") from error
    plugin: Plugin[ConnectorTable] | None = getattr(module, "PLUGIN", None)
    if plugin is None:
        raise ConfigError(f"kind = {kind!r}: connectors/{kind} exports no PLUGIN")
    return plugin
