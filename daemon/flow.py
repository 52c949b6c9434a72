"""The flow: how dispatcher, pool, workers and endings are put together, by daemon and tests alike.

It exists once the agents can run; what comes before it (connectors, intake) and after it
(deliveries) meets it in the ledger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from daemon.approvals import Approvals
from daemon.budgets import Budget
from daemon.clock import Clock
from daemon.dispatcher import Dispatcher
from daemon.endings import Endings
from daemon.metrics import Metrics
from daemon.model import ConversationId, Profile, Trust, Turn
from daemon.pool import Pool, PoolSettings
from daemon.ports import Agents, Connector, Gateway, Ledger, Tell, ToolServers
from daemon.tools import StagingGate
from daemon.worker import Surround


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """`turn_timeout` and `debounce` are seconds, `max_turns` the agent's steps in one turn."""

    pool: PoolSettings
    turn_timeout: float
    max_turns: int
    debounce: float


@dataclass(frozen=True, slots=True)
class Flow:
    agents: Agents
    endings: Endings
    pool: Pool
    dispatcher: Dispatcher


def build_flow(
    settings: FlowSettings,
    *,
    ledger: Ledger,
    agents: Agents,
    gateway: Gateway,
    connectors: Mapping[str, Connector],
    approvals: Approvals,
    servers: ToolServers,
    offer: Callable[[Turn, Budget, str, str], Awaitable[bool]],
    profiles: Callable[[Trust], Profile],
    wake_delivery: Callable[[str], None],
    tell: Tell,
    clock: Clock,
    metrics: Metrics,
) -> Flow:
    """Nothing runs yet: `flow.pool.run` and `flow.dispatcher.run` are the caller's services."""
    endings = Endings(
        ledger=ledger,
        agents=agents,
        clock=clock,
        metrics=metrics,
        rests=gateway.rests,
        profiles=profiles,
        connector=connectors.__getitem__,
        wake_delivery=wake_delivery,
        tell=tell,
        offer=offer,
    )
    around = Surround(
        ledger=ledger,
        agents=agents,
        gateway=gateway,
        endings=endings,
        clock=clock,
        metrics=metrics,
        connector=connectors.__getitem__,
        turn_timeout=settings.turn_timeout,
        max_turns=settings.max_turns,
    )

    def on_free(conversation: ConversationId | None) -> None:
        if conversation is None:
            dispatcher.nudge()
        else:
            dispatcher.wake(conversation)

    pool = Pool(
        around=around,
        agents=agents,
        gateway=gateway,
        profiles=profiles,
        make_gate=lambda: StagingGate(ledger, connectors, approvals, servers),
        settings=settings.pool,
        clock=clock,
        metrics=metrics,
        on_free=on_free,
    )
    dispatcher = Dispatcher(
        ledger=ledger, pool=pool, gateway=gateway, clock=clock, debounce=settings.debounce
    )
    return Flow(agents, endings, pool, dispatcher)
