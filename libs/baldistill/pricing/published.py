"""Published prices, by the library `genai-prices`: those of its release, never fetched, so that a plan needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from baldistill.specs.runspec import PriceSpec

_HOURS = 24


def published_version() -> str:
    """Name the release that prices come from."""
    return f"genai-prices-{version('genai-prices')}"


def published_price(*, model: str, base_url: str, now: datetime | None = None) -> PriceSpec | None:
    """Return a model's price at a provider that is known by its URL; None where it is not known, or not by tokens alone.

    Where a price depends on the length of the prompt or the hour, the dearest: what is reserved must be enough. Discounts
    of cached prompts are not counted, for the same reason.
    """
    # Deferred: it reads 2,000 models, about a second.
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    begin = now or datetime.now(UTC)
    prices = [found.get_prices(begin + timedelta(hours=hour)) for hour in range(_HOURS)]
    if any(_of(price, "requests_kcount") for price in prices):
        return None
    reasoning = _dearest(_of(price, "output_reasoning_mtok") for price in prices)
    paid_in = _dearest(_of(price, "input_mtok") for price in prices)
    paid_out = _dearest(_of(price, "output_mtok") for price in prices)
    if paid_in is None or paid_out is None:
        return None
    return PriceSpec(
        input_usd_per_million_tokens=paid_in, output_usd_per_million_tokens=max(paid_out, reasoning or Decimal(0))
    )


def _of(price: object, unit: str) -> Any:
    return getattr(price, unit, None)


def _dearest(values: Iterable[Any]) -> Decimal | None:
    """Return the highest of prices that may have tiers by the prompt's length; None where there is none."""
    flat = [
        step
        for value in values
        if value is not None
        for step in ([value] if isinstance(value, Decimal) else [value.base, *(tier.price for tier in value.tiers)])
    ]
    return max(flat, default=None)
