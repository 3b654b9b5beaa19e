"""The id of a feature set: words leave it alone, everything that changes a value changes it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from replenish.features.definitions.identity import canonical_form, differing_places, feature_set_digest
from replenish.features.definitions.model import (
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    FeatureTarget,
    KnownFutureColumn,
    RowFilter,
)
from tests.unit.features.definitions.small_set import INCREMENTS, small_set

WORDS = [
    ("version: 1.0.0", "version: 2.0.0"),
    ("A set for tests.", "Another description."),
    ("owner: sales_data", "owner: store_data"),
    ("owner: sales_data", "owner: sales_data\nconsumers: [forecast]"),
    ("description: Units of a week.", "description: Weekly units.\n    owner: store_data"),
    ("description: Announced ahead.", "description: Known before."),
    ("    aggregation: sum\n", "    aggregation: sum\n    offset_days: 0\n"),
    ("    aggregation: lag\n", "    aggregation: lag\n    denominator: calendar\n"),
    ("{from: units, unit: units}", "{from: units, unit: units, type: integer, planned: false}"),
    ("[location_id, event_time, sale_id]", "[event_time, sale_id, location_id]"),
    ("[version, reversal, cancellation]", "[cancellation, reversal, version]"),
]

MEANINGS = [
    ("clock: daily", "clock: instant", "clock"),
    ("entity: [sku_id, location_id]", "entity: [location_id, sku_id]", "entity"),
    ("gold/fct_demand", "gold/fct_sales", "sources.sales.table"),
    (", cancellation]", "]", "sources.sales.posting_kinds"),
    ("{from: units,", "{from: unit_price_cents,", "sources.sales.columns.units.from_column"),
    ("{from: is_promotion, unit: flag}", "{from: is_promotion, unit: yes_no}", "sources.prices.columns.promotion.unit"),
    ("unit: flag}", "unit: flag, type: integer}", "sources.prices.columns.promotion.logical_type"),
    ("planned: true", "planned: false", "sources.prices.columns.price.is_planned"),
    ("name: units_sum__7", "name: units_of_a_week", "features.units_of_a_week"),
    ("window_days: 7", "window_days: 8", "features.units_sum__7.window_days"),
    ("offset_days: 2", "offset_days: 3", "features.units_mean__28.offset_days"),
    ("aggregation: mean", "aggregation: std", "features.units_mean__28.aggregation"),
    ("denominator: observed", "denominator: calendar", "features.units_mean__28.denominator"),
    ("{buyer: b1}", "{buyer: b2}", "features.units_mean__28.where.equals"),
    ("    where: {buyer: b1}\n", "", "features.units_mean__28.where"),
    ("    value: cents\n", "    value: units\n", "features.cents_sum__7.value"),
    ("lag_days: 1", "lag_days: 2", "features.units_lag_1.lag_days"),
    ("lag_days: 1", "lag_days: 1\n    denominator: observed", "features.units_lag_1.denominator"),
    ("time_to_live_days: 30", "time_to_live_days: 31", "features.price_now.time_to_live_days"),
    ("    time_to_live_days: 30\n", "", "features.price_now.time_to_live_days"),
    ("numerator: cents_sum__7", "numerator: units_mean__28", "features.unit_cents__7.numerator"),
    ("name: demand", "name: sold", "targets.demand"),
    ("horizon_days: 28", "horizon_days: 29", "targets.demand.horizon_days"),
    ("name: weekday", "name: day", "known_future.day"),
]

FOLLOWING = {
    "sources.prices.columns.price.is_planned": [
        ("  - {name: price_now, reads: prices.price, unit: cents, description: Announced ahead.}\n", "")
    ],
    "sources.prices.columns.promotion.unit": [("    unit: flag\n", "    unit: yes_no\n")],
    "sources.sales.columns.units.from_column": [
        ("unit: units}", "unit: cents}"),
        *[("    unit: units\n", "    unit: cents\n")] * 3,
        ("unit: cents/units", "unit: ratio"),
    ],
    "features.cents_sum__7.value": [("    unit: cents\n", "    unit: units\n"), ("unit: cents/units", "unit: ratio")],
    "features.unit_cents__7.numerator": [("unit: cents/units", "unit: ratio")],
    "features.units_of_a_week": [("denominator_feature: units_sum__7", "denominator_feature: units_of_a_week")],
}
"""What has to change along for the file to be sound."""


@pytest.mark.parametrize(("old", "new"), WORDS, ids=[new[:40] for _, new in WORDS])
def test_words_and_spellings_do_not_change_the_id(tmp_path: Path, old: str, new: str) -> None:
    assert feature_set_digest(small_set(tmp_path, (old, new))) == feature_set_digest(small_set(tmp_path))


@pytest.mark.parametrize(("old", "new", "place"), MEANINGS, ids=[f"{m[2]} {m[1][:16]}" for m in MEANINGS])
def test_whatever_changes_a_value_changes_the_id(tmp_path: Path, old: str, new: str, place: str) -> None:
    edits = [(old, new), *FOLLOWING.get(place, [])]
    before, after = small_set(tmp_path), small_set(tmp_path, *edits)
    assert feature_set_digest(before) != feature_set_digest(after)
    assert place in list(differing_places(canonical_form(before), canonical_form(after)))


def test_the_grain_and_the_count_of_facts_change_the_id(tmp_path: Path) -> None:
    of_postings, of_increments = small_set(tmp_path, *INCREMENTS[1:]), small_set(tmp_path, *INCREMENTS)
    renamed = small_set(tmp_path, *INCREMENTS, ("lines: lines", "lines: n_lines"))
    assert list(differing_places(canonical_form(of_postings), canonical_form(of_increments))) == [
        "sources.sales.grain",
        "sources.sales.lines",
    ]
    assert len({feature_set_digest(each) for each in (of_postings, of_increments, renamed)}) == 3
    # A file that spells the default out, and a set turned back to postings, are what they were.
    spelled = ("sale_id]\n", "sale_id]\n    grain: postings\n")
    assert feature_set_digest(small_set(tmp_path, *INCREMENTS[1:], spelled)) == feature_set_digest(of_postings)
    assert feature_set_digest(of_increments.on_postings()) == feature_set_digest(of_postings)


def test_the_order_of_features_in_the_file_does_not_matter(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    turned = replace(read, features=read.features[::-1], sources=read.sources[::-1])
    assert feature_set_digest(read) == feature_set_digest(turned)


WORDS_OF = {
    FeatureSet: {"name", "version", "description", "owner", "consumers"},
    FeatureDefinition: {"description", "owner"},
    KnownFutureColumn: {"description"},
}
PARTS = {
    FeatureSet: None,
    FeatureSource: "sources",
    FeatureDefinition: "features",
    FeatureTarget: "targets",
    KnownFutureColumn: "known_future",
}


@pytest.mark.parametrize(
    ("model", "field"), [(m, f.name) for m in PARTS for f in fields(m)], ids=lambda v: getattr(v, "__name__", v)
)
def test_every_field_of_the_model_counts_unless_it_is_words(tmp_path: Path, model: type, field: str) -> None:
    before = small_set(tmp_path)
    part = PARTS[model]
    if part is None:
        after = replace(before, **{field: other_value(getattr(before, field), field)})
    else:
        first, *others = getattr(before, part)
        after = replace(
            before, **{part: (replace(first, **{field: other_value(getattr(first, field), field)}), *others)}
        )
    is_same = feature_set_digest(before) == feature_set_digest(after)
    assert is_same == (field in WORDS_OF.get(model, set()))


def other_value(value: object, field: str) -> object:
    """Another value for a field, of the same kind."""
    if value is None:
        return RowFilter("buyer", "b9") if field == "where" else "given"
    if isinstance(value, int):
        return value + 1
    return f"{value}_x" if isinstance(value, str) else tuple(value)[1:] if value else ("other",)  # type: ignore[arg-type]


def test_the_id_of_a_set_stays_what_it_is(tmp_path: Path) -> None:
    """A canonical form that changes by accident would give every recorded model another feature set."""
    assert feature_set_digest(small_set(tmp_path)) == "aeb8accfad459a501288246f2ebc29b7789fb2bc932498556732f49b6e5d36ae"
