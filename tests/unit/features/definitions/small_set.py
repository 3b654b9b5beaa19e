"""A small feature set as a file, to be changed by tests, and the contracts it stands on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_set

SMALL = """\
feature_set: small
version: 1.0.0
description: A set for tests.
owner: sales_data
clock: daily
entity: [sku_id, location_id]
sources:
  sales:
    table: gold/fct_demand
    stream: sales
    fact_key: [location_id, event_time, sale_id]
    posting_kinds: [version, reversal, cancellation]
    columns:
      units: {from: units, unit: units}
      cents: {from: revenue_cents, unit: cents}
      buyer: {from: customer_id, unit: text}
  prices:
    table: gold/fct_price
    stream: prices
    fact_key: [sku_id, location_id, event_time]
    columns:
      price: {from: unit_price_cents, unit: cents, planned: true}
      promotion: {from: is_promotion, unit: flag}
features:
  - name: units_sum__7
    source: sales
    value: units
    aggregation: sum
    window_days: 7
    unit: units
    description: Units of a week.
  - name: cents_sum__7
    source: sales
    value: cents
    aggregation: sum
    window_days: 7
    unit: cents
    description: Revenue of a week.
  - name: units_mean__28
    source: sales
    value: units
    aggregation: mean
    window_days: 28
    offset_days: 2
    denominator: observed
    where: {buyer: b1}
    unit: units
    description: Mean units of a day with sales to one buyer.
  - name: units_lag_1
    source: sales
    value: units
    aggregation: lag
    lag_days: 1
    unit: units
    description: Units of yesterday.
  - name: price_now
    source: prices
    value: price
    aggregation: last
    time_to_live_days: 30
    unit: cents
    description: The price that holds.
  - name: promoted
    source: prices
    value: promotion
    aggregation: last
    unit: flag
    description: Whether a promotion holds.
  - name: unit_cents__7
    aggregation: ratio
    numerator: cents_sum__7
    denominator_feature: units_sum__7
    unit: cents/units
    description: What a unit brought.
targets:
  - {name: demand, source: sales, value: units, horizon_days: 28}
known_future:
  - {name: price_now, reads: prices.price, unit: cents, description: Announced ahead.}
  - {name: weekday, reads: calendar, unit: day, description: Weekday of the target day.}
"""


INCREMENTS = (
    ("sale_id]\n", "sale_id]\n    grain: increments\n    lines: lines\n"),
    ("      buyer: {from: customer_id, unit: text}\n", ""),
    ("    where: {buyer: b1}\n", ""),
)
"""Edits by which the sales are read as daily increments, as gold keeps them."""


@cache
def contracts() -> dict[str, Contract]:
    """The platform's contracts, read once."""
    return read_contracts()


def changed_text(*edits: tuple[str, str]) -> str:
    """The file with each (old, new) replaced at its first place; an edit that finds nothing is a slip of the test."""
    text = SMALL
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def small_set(folder: Path, *edits: tuple[str, str]) -> FeatureSet:
    """The changed file, read."""
    path = folder / "small.yaml"
    path.write_text(changed_text(*edits), encoding="utf-8")
    return read_feature_set(path, contracts())
