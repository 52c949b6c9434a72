"""What a component's state means for `/readyz` and `/healthz`: checks that need several parts."""

from __future__ import annotations

from dataclasses import replace

from daemon.flow import Flow
from daemon.health import LoopPulse
from daemon.model import Health, HealthState
from daemon.ports import Connector, Counts
from daemon.supervisor import ServiceState, Supervisor

HELD_UP_SECONDS = 10.0


def daemon_health(supervisor: Supervisor, loop: LoopPulse, *, draining: bool) -> Health:
    if draining:
        return Health(HealthState.WARN, "draining", ready=False)
    waiting = [n for n, s in supervisor.states.items() if s is ServiceState.WAITING]
    if waiting:
        return Health(HealthState.WARN, f"restarting: {', '.join(waiting)}")
    return Health(HealthState.PASS, numbers={"loop_lag_seconds": round(loop.lag, 4)})


def connector_health(
    supervisor: Supervisor, name: str, connector: Connector, counts: Counts | None
) -> Health:
    """Its own word on what comes in; and a warning while what should go out does not."""
    service = f"connector:{name}"
    if supervisor.states.get(service) is ServiceState.PARKED:
        return Health(HealthState.FAIL, f"parked: {supervisor.reasons[service]}", ready=False)
    health = connector.health()
    held_up = counts.held_up.get(name) if counts else None
    if held_up is None or held_up.age < HELD_UP_SECONDS or health.state is not HealthState.PASS:
        return health
    why = held_up.reason or "whether they arrived is looked up"
    detail = f"{held_up.number} deliveries held up for {held_up.age:.0f} s: {why}"
    return replace(health, state=HealthState.WARN, detail=detail)


def pool_health(supervisor: Supervisor, flow: Flow | None, level: str) -> Health:
    if supervisor.states.get("pool") is ServiceState.PARKED or flow is None:
        return Health(HealthState.WARN, supervisor.reasons.get("pool", "starting"), ready=False)
    numbers: dict[str, float | int | str | bool | None] = dict(flow.pool.numbers())
    numbers["isolation"] = level
    if flow.pool.trouble:
        return Health(HealthState.FAIL, flow.pool.trouble, ready=False, numbers=numbers)
    return Health(HealthState.PASS, numbers=numbers)
