"""What calls cost, by the price table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.gateway import prices
from daemon.gateway.prices import DEAREST, DEAREST_FAST, TARIFFS, Metered, cost, tariff
from daemon.model import Usage

EVERYTHING = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("claude-sonnet-5", 2 + 10 + 0.2 + 2.5),
        ("claude-sonnet-5-5", 2 + 10 + 0.1 + 2.5),
        ("claude-sonnet-4-5-20250929", 3 + 15 + 0.3 + 3.75),
        ("claude-opus-5-5", 4 + 20 + 0.2 + 5),
        ("claude-opus-5-5[1m]", 4 + 20 + 0.2 + 5),
        ("claude-opus-4-20250514", 15 + 75 + 1.5 + 18.75),
        ("claude-haiku-4-5-20251001", 1 + 5 + 0.1 + 1.25),
        ("claude-haiku-4-5-latest", 1 + 5 + 0.1 + 1.25),
        ("claude-haiku-5-5", 0.5 + 2.5 + 0.05 + 0.625),  # above 100,000 tokens of prompt
        ("claude-fable-5-2", 8 + 40 + 0.2 + 10),
    ],
)
def test_a_million_tokens_of_each_kind(model: str, dollars: float) -> None:
    assert cost(Metered(model, EVERYTHING)) == pytest.approx(dollars)


def test_a_short_prompt_of_haiku_5_5_is_cheap() -> None:
    assert cost(Metered("claude-haiku-5-5", Usage(100_000, 0))) == pytest.approx(0.01)
    assert cost(Metered("claude-haiku-5-5", Usage(60_000, 0, 60_000))) == pytest.approx(0.033)


def test_a_cache_written_for_an_hour_costs_more() -> None:
    usage = Usage(cache_write=1_000_000)
    assert cost(Metered("claude-sonnet-5", usage, cache_write_1h=400_000)) == pytest.approx(
        0.6 * 2.5 + 0.4 * 4
    )
    assert cost(Metered("claude-sonnet-5", usage, cache_write_1h=9_000_000)) == pytest.approx(4)


def test_searches_fast_mode_and_us_inference_are_counted() -> None:
    usage = Usage(1_000_000)
    assert cost(Metered("claude-opus-5-5", usage, web_searches=3)) == pytest.approx(4.03)
    assert cost(Metered("claude-opus-5-5", usage, fast=True)) == pytest.approx(8)
    assert cost(Metered("claude-opus-5-5", usage, in_us=True)) == pytest.approx(4.4)
    assert cost(Metered("claude-sonnet-5", usage, fast=True)) == DEAREST_FAST.input


@pytest.mark.parametrize(
    "model", ["", "gpt-9", "claude-sonnet-5-9", "claude-opus-6", "claude-opus-5-5-mini", "Claude"]
)
def test_an_unknown_model_costs_what_the_dearest_known_one_does(model: str) -> None:
    assert tariff(model) is None
    assert cost(Metered(model, Usage(1_000_000))) == DEAREST.input == 15
    assert all(
        cost(Metered(name, EVERYTHING)) <= cost(Metered(model, EVERYTHING)) for name in TARIFFS
    )


def test_every_price_is_above_nothing_and_ordered() -> None:
    for name, found in TARIFFS.items():
        for rate in filter(None, (found.standard, found.fast, found.long)):
            assert 0 < rate.cache_read < rate.input < rate.cache_write_5m < rate.cache_write_1h, (
                name
            )
            assert rate.output > rate.input, name


def test_an_old_table_is_called_stale() -> None:
    assert not prices.is_stale(prices.AS_OF + timedelta(days=120))
    assert prices.is_stale(prices.AS_OF + timedelta(days=121))
