from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from daemon.budgets import Scope
from daemon.metrics import Metrics

# The operator's surface, "Metrics".
SURFACE = """
messages_received_total{connector,outcome} turns_total{outcome} turn_seconds first_signal_seconds
register_seconds queue_depth queue_oldest_age_seconds processes{state}
process_starts_total{reason} process_start_seconds model_requests_total{outcome}
model_tokens_total{kind} model_cost_usd_total budget_refusals_total{scope}
deliveries_total{connector,outcome} delivery_unclear_total{connector} connector_ready{connector}
connector_last_proof_age_seconds{connector} restarts_total{service} dead_letters
approvals_pending event_loop_lag_seconds isolation_level_info{level} build_info
"""
ALLOWED_LABELS = {
    "connector", "outcome", "state", "reason", "kind", "scope", "service", "level", "le",
}  # fmt: skip


def lit() -> Metrics:
    """All metrics, each with a sample."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        names = getattr(metric, "_labelnames", ())
        if names:
            metric.labels(*("x" for _ in names))
    metrics.isolation_level.info({"level": "landlock"})
    return metrics


def test_every_metric_of_the_surface_is_there_with_its_labels() -> None:
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(lit().text().decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    for name, labels in re.findall(r"(\w+)(?:\{([\w,]+)\})?", SURFACE):
        whole = f"postroom_{name}"
        found = whole if whole in samples else f"{whole}_bucket"
        assert found in samples, name
        assert samples[found] - {"le"} == set(filter(None, labels.split(","))), name


def test_no_label_could_hold_a_person_or_a_conversation() -> None:
    for family in text_string_to_metric_families(lit().text().decode()):
        for sample in family.samples:
            assert set(sample.labels) <= ALLOWED_LABELS, sample.name


def test_what_alerts_watch_begins_at_nought() -> None:
    metrics = Metrics()
    metrics.begin(["support"])
    page = metrics.text().decode()
    assert 'postroom_delivery_unclear_total{connector="support"} 0.0' in page
    for scope in Scope:
        assert f'postroom_budget_refusals_total{{scope="{scope}"}} 0.0' in page


def test_the_operators_page_names_no_metric_that_is_not_there() -> None:
    pages = [path.read_text() for path in (Path(__file__).parents[3] / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`(postroom_[a-z_]+)", page)}
    page = lit().text().decode()
    assert [name for name in sorted(named) if name not in page] == []
