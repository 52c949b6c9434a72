"""The tools of ours: a call is checked, and its effect staged durably, before it returns."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from daemon.errors import LedgerError
from daemon.model import JsonObject, Turn
from daemon.ports import Connector, Ledger, OffersTools, ToolSpec

log = structlog.get_logger()

_NOT_NOW = "This tool cannot be used right now."
_NOT_HERE = "This tool does not belong to this conversation's channel."


class StagingGate:
    """The port `ToolGate`: open while a turn runs, closed before and after."""

    def __init__(self, ledger: Ledger, connectors: Mapping[str, Connector]) -> None:
        self._ledger = ledger
        self._connectors = connectors
        self._turn: Turn | None = None
        self._attempt = 0

    def open(self, turn: Turn, attempt: int) -> None:
        self._turn, self._attempt = turn, attempt

    def close(self) -> None:
        self._turn = None

    async def call(self, tool: str, arguments: JsonObject, tool_use_id: str) -> str:
        """Stage the call's effect; what comes back is what the model reads."""
        turn = self._turn
        if turn is None:
            return _NOT_NOW
        connector = self._connectors[turn.connector]
        if not isinstance(connector, OffersTools):
            return _NOT_HERE
        spec = next((spec for spec in connector.tools if spec.name == tool), None)
        if spec is None:
            return _NOT_HERE
        key = f"{turn.id}/{self._attempt}/{tool_use_id}"
        effect = connector.compose_tool(tool, arguments, key, turn)
        if isinstance(effect, str):
            log.info("tool.refused", tool=tool, turn=turn.id)
            return effect
        try:
            await self._ledger.stage(turn.id, self._attempt, tool_use_id, effect)
        except LedgerError:
            log.exception("effect.not_staged", tool=tool, turn=turn.id)
            return _NOT_NOW
        log.info("effect.staged", tool=tool, turn=turn.id, effect=effect.id)
        return spec.answer


def all_tools(connectors: Mapping[str, Connector]) -> tuple[ToolSpec, ...]:
    """Every tool of every connector, by name: they are on every process (DESIGN 3.4)."""
    specs = {
        spec.name: spec
        for connector in connectors.values()
        if isinstance(connector, OffersTools)
        for spec in connector.tools
    }
    return tuple(specs[name] for name in sorted(specs))
