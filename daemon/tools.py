"""What an agent's calls come to: one of a tool of ours is checked, and its effect staged durably,
before it returns; one of an MCP server's is recorded and passed on; one that has to be asked for is
put before a person.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from daemon.approvals import Approvals
from daemon.errors import LedgerError
from daemon.model import AGENT, Audited, JsonObject, Turn, canonical
from daemon.ports import (
    Connector,
    Ledger,
    OffersTools,
    Permission,
    ToolAnswer,
    ToolServers,
    ToolSpec,
)
from daemon.toolnames import full_name

log = structlog.get_logger()

_NOT_NOW = "This tool cannot be used right now."
_NOT_HERE = "This tool does not belong to this conversation's channel."


class StagingGate:
    """The port `ToolGate`: open while a turn runs, closed before and after."""

    def __init__(
        self,
        ledger: Ledger,
        connectors: Mapping[str, Connector],
        approvals: Approvals,
        servers: ToolServers,
    ) -> None:
        self._ledger = ledger
        self._servers = servers
        self._connectors = connectors
        self._approvals = approvals
        self._turn: Turn | None = None
        self._attempt = 0
        self._patient = True

    def open(self, turn: Turn, attempt: int) -> None:
        self._turn, self._attempt, self._patient = turn, attempt, True

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

    async def use(
        self, server: str, tool: str, arguments: JsonObject, tool_use_id: str
    ) -> ToolAnswer:
        """What is not recorded is not done."""
        turn, name = self._turn, full_name(server, tool)
        if turn is None:
            return ToolAnswer(_NOT_NOW, failed=True)
        facts = {"turn": turn.id, "attempt": self._attempt, "tool": name, "call": tool_use_id}
        asked = Audited("tool.called", AGENT, turn.conversation, facts, (canonical(arguments),))
        try:
            await self._ledger.audit(asked)
        except LedgerError:
            log.exception("tool.not_recorded", tool=name, turn=turn.id)
            return ToolAnswer(_NOT_NOW, failed=True)
        answer = await self._servers.call(server, tool, arguments)
        log.info("tool.answered", tool=name, turn=turn.id, failed=answer.failed)
        facts["failed"] = answer.failed
        try:
            await self._ledger.audit(Audited("tool.answered", AGENT, turn.conversation, facts))
        except LedgerError:  # that it was called is recorded
            log.exception("tool.not_recorded", tool=name, turn=turn.id)
        return answer

    async def ask(self, tool: str, arguments: JsonObject) -> Permission:
        """A turn waits once for a person: what it asks for after that is decided later, too."""
        turn = self._turn
        if turn is None:
            return Permission(granted=False, reason=_NOT_NOW)
        try:
            permission = await self._approvals.ask(turn, tool, arguments, patient=self._patient)
        except LedgerError:
            log.exception("approval.not_asked", tool=tool, turn=turn.id)
            return Permission(granted=False, reason=_NOT_NOW)
        self._patient = self._patient and not permission.waits
        return permission


def all_tools(connectors: Mapping[str, Connector]) -> tuple[ToolSpec, ...]:
    """Every tool of every connector, by name: they are on every process (DESIGN 3.4)."""
    specs = {
        spec.name: spec
        for connector in connectors.values()
        if isinstance(connector, OffersTools)
        for spec in connector.tools
    }
    return tuple(specs[name] for name in sorted(specs))
