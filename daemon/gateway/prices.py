"""What tokens cost, in US dollars per million, and the cost of one call. Pure; the one price table.

Sources, read on the day of `AS_OF` and agreeing where both speak:
https://platform.claude.com/docs/en/about-claude/pricing with its page for each model, and the
catalogue inside the pinned CLI (2.1.330), from which the fast prices are. No figure is assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta

from daemon.model import Usage

AS_OF = date(2026, 11, 24)
STALE_AFTER = timedelta(days=120)
"""Prices have changed a few times a year: `doctor` warns when the table is older than this."""

WEB_SEARCH = 0.01  # US dollars a search
US_INFERENCE = 1.1  # times the token price, where the answer's usage says `inference_geo: us`
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; cache writes by their time to live."""

    input: float
    output: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float


@dataclass(frozen=True, slots=True)
class Tariff:
    """A model's prices: standard, fast mode, and those above so many tokens of prompt."""

    standard: Price
    fast: Price | None = None
    long: Price | None = None
    long_above: int = 0


@dataclass(frozen=True, slots=True)
class Metered:
    """What the API said one call used; what is priced apart stands beside the plain usage."""

    model: str = ""
    usage: Usage = field(default_factory=Usage)
    cache_write_1h: int = 0
    """The part of `usage.cache_write` that was written for an hour."""
    web_searches: int = 0
    fast: bool = False
    in_us: bool = False


def _price(base: float, output: float, cache_read: float) -> Price:
    """Cache writes are 1.25 and 2 times the input price, for all models so far."""
    return Price(base, output, cache_read, round(base * 1.25, 4), base * 2)


_OPUS_4 = Tariff(_price(15, 75, 1.5))
_OPUS = _price(5, 25, 0.5)
_SONNET = Tariff(_price(3, 15, 0.3))
_FABLE = Tariff(_price(10, 50, 1))
_FABLE_5_1 = Tariff(_price(10, 50, 0.25))
_FABLE_5_2 = Tariff(_price(8, 40, 0.2), fast=_price(16, 80, 0.4))
_HAIKU_3_5 = Tariff(_price(0.8, 4, 0.08))

TARIFFS: dict[str, Tariff] = {
    "claude-3-5-haiku": _HAIKU_3_5,
    "claude-haiku-4-5": Tariff(_price(1, 5, 0.1)),
    "claude-haiku-5-5": Tariff(
        _price(0.1, 0.5, 0.01), long=_price(0.5, 2.5, 0.05), long_above=100_000
    ),
    "claude-3-5-sonnet": _SONNET,
    "claude-3-7-sonnet": _SONNET,
    "claude-sonnet-4": _SONNET,
    "claude-sonnet-4-0": _SONNET,
    "claude-sonnet-4-5": _SONNET,
    "claude-sonnet-4-6": _SONNET,
    "claude-sonnet-5": Tariff(_price(2, 10, 0.2)),
    "claude-sonnet-5-5": Tariff(_price(2, 10, 0.1)),
    "claude-opus-4": _OPUS_4,
    "claude-opus-4-0": _OPUS_4,
    "claude-opus-4-1": _OPUS_4,
    "claude-opus-4-5": Tariff(_OPUS),
    "claude-opus-4-6": Tariff(_OPUS, fast=_price(30, 150, 3)),
    "claude-opus-4-7": Tariff(_OPUS, fast=_price(30, 150, 3)),
    "claude-opus-4-8": Tariff(_OPUS, fast=_price(10, 50, 1)),
    "claude-opus-5": Tariff(_OPUS, fast=_price(10, 50, 1)),
    "claude-opus-5-5": Tariff(_price(4, 20, 0.2), fast=_price(8, 40, 0.4)),
    "claude-fable-5": _FABLE,
    "claude-fable-5-1": _FABLE_5_1,
    "claude-fable-5-2": _FABLE_5_2,
    "claude-mythos-5": _FABLE,
    "claude-mythos-5-1": _FABLE_5_1,
    "claude-mythos-5-2": _FABLE_5_2,
}


def _dearest(prices: list[Price]) -> Price:
    return Price(
        input=max(price.input for price in prices),
        output=max(price.output for price in prices),
        cache_read=max(price.cache_read for price in prices),
        cache_write_5m=max(price.cache_write_5m for price in prices),
        cache_write_1h=max(price.cache_write_1h for price in prices),
    )


DEAREST = _dearest([tariff.standard for tariff in TARIFFS.values()])
DEAREST_FAST = _dearest([tariff.fast for tariff in TARIFFS.values() if tariff.fast])

# What may follow a known name: a date, or "latest", and the mark of the long context window. Any
# other ending ("claude-sonnet-5" and "-9") is another model, whose price is not known.
_SUFFIX = re.compile(r"(-[0-9]{8}|-latest)?(\[1m\])?")


def tariff(model: str) -> Tariff | None:
    """The tariff of a model by its name, dated or not; None: it is not in the table."""
    for name in sorted(TARIFFS, key=len, reverse=True):
        if model.startswith(name) and _SUFFIX.fullmatch(model[len(name) :]):
            return TARIFFS[name]
    return None


def price(metered: Metered) -> Price:
    """The price of this call's tokens. An unknown model is priced at the dearest known one's, so
    that a cap errs on the side of stopping early; so is an unknown fast mode.
    """
    found = tariff(metered.model)
    if metered.fast:
        return found.fast if found and found.fast else DEAREST_FAST
    if found is None:
        return DEAREST
    usage = metered.usage
    prompt = usage.input + usage.cache_read + usage.cache_write
    return found.long if found.long and prompt > found.long_above else found.standard


def cost(metered: Metered) -> float:
    """US dollars of one call."""
    rate, usage = price(metered), metered.usage
    hour = min(metered.cache_write_1h, usage.cache_write)
    dollars = (
        usage.input * rate.input
        + usage.output * rate.output
        + usage.cache_read * rate.cache_read
        + (usage.cache_write - hour) * rate.cache_write_5m
        + hour * rate.cache_write_1h
    ) / MILLION
    return dollars * (US_INFERENCE if metered.in_us else 1.0) + metered.web_searches * WEB_SEARCH


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a call costs, in US dollars: its prompt, and so much for a token of output."""

    prompt: float
    token: float

    def dollars(self, output: int) -> float:
        return self.prompt + output * self.token

    def tokens(self, dollars: float) -> int:
        """How much output these dollars pay for."""
        return int((dollars - self.prompt) / self.token)


def bound(model: str, prompt_tokens: int, premium: float = 1.0) -> Bound:
    """Of a call with a prompt so long: as if nothing of it were cached yet, as the first time.
    `premium`: its upstream's price, as a multiple of these.
    """
    usage = Usage(cache_write=prompt_tokens)
    rate = price(Metered(model, usage))
    return Bound(premium * cost(Metered(model, usage)), premium * rate.output / MILLION)


def is_stale(today: date) -> bool:
    """Whether `doctor` should ask for a newer table."""
    return today - AS_OF > STALE_AFTER
