"""The egress proxy: the only way from an agent's shell to hosts outside, for profiles with a list.

A request's way: `requests` reads it, `proxy` asks whose turn it is of and whether the list has its
destination, `dialling` resolves the name and looks at the addresses, `carrying` passes the bytes.
"""

from __future__ import annotations

from daemon.egress.outing import Outing
from daemon.egress.proxy import EgressProxy

__all__ = ["EgressProxy", "Outing"]
