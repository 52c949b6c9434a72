"""The metrics of the surface, in a registry of our own. No user or conversation in a label."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from daemon.budgets import Scope

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0)
_SLOW = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


class Metrics:
    """One attribute a metric; the daemon's parts count, `/metrics` prints."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"postroom_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"postroom_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"postroom_{name}", text, buckets=buckets, registry=registry)

        self.messages_received = counter(
            "messages_received", "Inbound items registered", "connector", "outcome"
        )
        self.turns = counter("turns", "Turns ended", "outcome")
        self.turn_seconds = histogram("turn_seconds", "Claim to end of a turn", _SLOW)
        self.first_signal_seconds = histogram(
            "first_signal_seconds", "Receipt to the first visible sign", _FAST
        )
        self.register_seconds = histogram("register_seconds", "Registering one item", _FAST)
        self.queue_depth = gauge("queue_depth", "Messages that wait for a turn")
        self.queue_oldest_age_seconds = gauge(
            "queue_oldest_age_seconds", "Age of the oldest waiting message"
        )
        self.processes = gauge("processes", "Agent processes", "state")
        self.process_starts = counter("process_starts", "Agent processes started", "reason")
        self.process_start_seconds = histogram(
            "process_start_seconds", "Start of an agent process", _SLOW
        )
        self.model_requests = counter("model_requests", "Requests to the model", "outcome")
        self.model_tokens = counter("model_tokens", "Tokens metered", "kind")
        self.model_cost_usd = counter("model_cost_usd", "US dollars metered")
        self.budget_refusals = counter("budget_refusals", "Refused for a budget", "scope")
        self.egress_connections = counter(
            "egress_connections", "Connections that agents asked the proxy for", "outcome"
        )
        self.egress_bytes = counter("egress_bytes", "Bytes through the proxy", "kind")
        self.deliveries = counter("deliveries", "Effects carried out", "connector", "outcome")
        self.delivery_unclear = counter(
            "delivery_unclear", "Deliveries whose ending nobody can tell", "connector"
        )
        self.connector_ready = gauge("connector_ready", "1 when proven alive", "connector")
        self.connector_last_proof_age_seconds = gauge(
            "connector_last_proof_age_seconds", "Age of the last proof of life", "connector"
        )
        self.restarts = counter("restarts", "Services restarted", "service")
        self.dead_letters = gauge("dead_letters", "Dead letters that wait for a person")
        self.approvals_pending = gauge("approvals_pending", "Calls that wait for a person's word")
        self.log_redactions = counter("log_redactions", "Texts in the log that held a secret")
        self.event_loop_lag_seconds = gauge("event_loop_lag_seconds", "How late the loop turns")
        self.tasks = gauge("tasks", "Asyncio tasks of the daemon: flat where nothing leaks")
        # The daemon's own memory, processor time and file descriptors, by Prometheus' own names.
        ProcessCollector(registry=registry)
        self.isolation_level = Info(
            "postroom_isolation_level", "The level that passed its proof", registry=registry
        )
        self.build = Info("postroom_build", "Versions", registry=registry)

    def begin(self, connectors: Iterable[str]) -> None:
        """Start the counts that alerts watch at nought: a rise from nothing is not seen as one."""
        for connector in connectors:
            self.delivery_unclear.labels(connector)
            for outcome in ("sent", "dead", "unclear"):
                self.deliveries.labels(connector, outcome)
        for scope in Scope:
            self.budget_refusals.labels(scope)

    def text(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return generate_latest(self.registry)
