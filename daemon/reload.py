"""SIGHUP: what of the configuration is taken up by a daemon that runs, and what waits for a start.

Taken up is what can change without a conversation, a connection or a wall noticing. The rest keeps
the value it has, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from daemon.config import Config
from daemon.errors import ConfigError

# Of a connector that stays, `daily` is as well.
TAKEN_UP = frozenset(
    {
        "daemon.drain_seconds",
        "daemon.log_level",
        "daemon.notify",
        "budgets.per_turn",
        "budgets.per_conversation",
        "budgets.per_sender_daily",
        "budgets.daily",
        "budgets.public_daily",
        "budgets.channels",
        "retention.workspaces_days",
        "retention.records_days",
    }
)


@dataclass(frozen=True, slots=True)
class Reload:
    """`config` holds from now on. `taken` and `waiting` are keys that differ from what held."""

    config: Config
    taken: tuple[str, ...]
    waiting: tuple[str, ...]


def compare(running: Config, written: Config) -> Reload:
    """What of a newly read configuration is taken up. Raises ConfigError where that part does not
    go with the rest of the one that runs.
    """
    before, after = dict(_keys(running)), dict(_keys(written))
    changed = sorted(key for key in before | after if before.get(key) != after.get(key))
    both = running.connectors.keys() & written.connectors
    taken_up = TAKEN_UP | {f"connectors.{name}.daily" for name in both}
    taken = tuple(key for key in changed if key in taken_up)
    tables: dict[str, dict[str, object]] = {}
    for key in taken:
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = after[key]
    fields: dict[str, Any] = {name: getattr(running, name) for name in Config.model_fields}
    fields["connectors"] = dict(running.connectors)
    for table, values in tables.items():
        group, _, connector = table.partition(".")
        held, name = (fields[group], connector) if connector else (fields, group)
        held[name] = held[name].model_copy(update=values)
    try:
        config = Config(**fields)
    except ValidationError as error:
        raise ConfigError(f"{', '.join(taken)}: {error.errors()[0]['msg']}") from error
    return Reload(config, taken, tuple(key for key in changed if key not in taken_up))


def _keys(value: BaseModel, where: str = "") -> Iterator[tuple[str, object]]:
    """Every key with its table, as "daemon.log_level"; a secret counts by where it comes from."""
    for name in type(value).model_fields:
        key, child = f"{where}{name}", getattr(value, name)
        if isinstance(child, BaseModel):
            yield from _keys(child, f"{key}.")
        elif isinstance(child, Mapping) and any(isinstance(v, BaseModel) for v in child.values()):
            for item, table in child.items():
                yield from _keys(table, f"{key}.{item}.")
        else:
            yield key, child
