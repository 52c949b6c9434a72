"""The durable record: the only place that knows SQL, behind the port `Ledger`."""

from __future__ import annotations

from daemon.ledger.opening import ReadOnlyLedger, engine_version, open_ledger, read_only
from daemon.ledger.sqlite import SqliteLedger

__all__ = ["ReadOnlyLedger", "SqliteLedger", "engine_version", "open_ledger", "read_only"]
