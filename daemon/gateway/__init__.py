"""The model gateway: tokens instead of the key, metering, caps. The only holder of the key."""

from __future__ import annotations

from daemon.gateway.gateway import ModelGateway
from daemon.gateway.purses import Nearing
from daemon.gateway.record import CallObserved, Outcome
from daemon.gateway.relay import Patience
from daemon.gateway.upstreams import Upstream, dialect_of, open_dialect

__all__ = [
    "CallObserved",
    "ModelGateway",
    "Nearing",
    "Outcome",
    "Patience",
    "Upstream",
    "dialect_of",
    "open_dialect",
]
