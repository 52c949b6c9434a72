"""Bedrock's and Vertex's doors before the scripted stand-in of the model. No model is behind them.

They take what the two publish and refuse all else: addresses, versions, keys of the body, and
credentials, which are checked as the real ones do. Sources: gateway/upstreams/bedrock.py, vertex.py
and google.py; the keys and experiments are those that the pinned CLI sends to each by itself.
"""

from daemon.demo.clouds.bedrock import StandInBedrock
from daemon.demo.clouds.vertex import StandInVertex

__all__ = ["StandInBedrock", "StandInVertex"]
