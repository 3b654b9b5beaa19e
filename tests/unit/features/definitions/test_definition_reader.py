"""Reading feature files: what is understood, and that every mistake names file, field, rule and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from replenish.errors import ContractError
from replenish.features.definitions.model import FeatureDefinition, RowFilter, feature_type
from replenish.features.definitions.reader import read_feature_set, read_feature_sets
from replenish.features.definitions.sources import feature_classification
from tests.unit.features.definitions.small_set import INCREMENTS, changed_text, contracts, small_set

LAG = "    aggregation: lag\n    lag_days: 1\n"
MEAN = "    aggregation: mean\n"
TTL = "    time_to_live_days: 30\n"
RATIO = "    numerator: cents_sum__7\n"
SUM = "    aggregation: sum\n    window_days: 7\n    unit: units\n"
TARGET = "{name: demand, source: sales, value: units, horizon_days: 28}"
WEEKDAY = "{name: weekday, reads: calendar, unit: day, description: Weekday of the target day.}"


def test_a_file_becomes_a_feature_set(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    assert read.feature_names == (
        *("units_sum__7", "cents_sum__7", "units_mean__28", "units_lag_1", "price_now", "promoted", "unit_cents__7"),
    )
    assert read.feature("units_mean__28") == FeatureDefinition(
        name="units_mean__28",
        aggregation="mean",
        unit="units",
        description="Mean units of a day with sales to one buyer.",
        source="sales",
        value="units",
        window_days=28,
        offset_days=2,
        denominator="observed",
        where=RowFilter("buyer", "b1"),
    )
    assert read.feature("units_lag_1").denominator == "calendar"
    assert [feature_type(read, f) for f in read.features] == [
        *("integer", "integer", "number", "integer", "integer", "boolean", "number"),
    ]


def test_a_classification_is_the_strictest_of_the_columns_behind(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    found = {f.name: feature_classification(read, f, contracts()) for f in read.features}
    assert found == {
        "units_sum__7": "internal",
        "cents_sum__7": "confidential",
        "units_mean__28": "personal",
        "units_lag_1": "internal",
        "price_now": "internal",
        "promoted": "internal",
        "unit_cents__7": "confidential",
    }


def test_for_days_stands_for_one_feature_a_number(tmp_path: Path) -> None:
    edits = (
        ("units_lag_1", '"units_lag_{days}"\n    for_days: [1, 2]'),
        ("lag_days: 1", 'lag_days: "{days}"'),
        ("of yesterday", "of t-{days}"),
    )
    read = small_set(tmp_path, *edits)
    assert [(f.name, f.lag_days, f.description) for f in read.features[3:5]] == [
        ("units_lag_1", 1, "Units of t-1."),
        ("units_lag_2", 2, "Units of t-2."),
    ]


def test_a_longer_offset_makes_room_for_a_target_that_has_begun(tmp_path: Path) -> None:
    begun = TARGET.replace("}", ", first_day: -2}")
    apart = [("    aggregation: sum\n", "    aggregation: sum\n    offset_days: 2\n")]
    apart += [("    aggregation: sum\n    window_days", "    aggregation: sum\n    offset_days: 2\n    window_days")]
    read = small_set(tmp_path, *apart, ("lag_days: 1", "lag_days: 3"), (TARGET, begun))
    assert read.targets[0].first_day == -2


MISTAKES = [
    # Structure.
    ("owner: sales_data\n", "", "owner", "is missing"),
    ("owner: sales_data\n", "ownr: sales_data\n", "owner", "is missing"),
    ("clock: daily", "clock: daily\ncolour: red", "colour", "unknown key"),
    ("clock: daily", "clock: hourly", "clock", "must be one of daily, instant"),
    ("version: 1.0.0", "version: one", "version", "major.minor.patch"),
    ("feature_set: small", "feature_set: other", "feature_set", "must be the file's name in lower case, 'small'"),
    ("entity: [sku_id, location_id]", "entity: []", "entity", "must name key columns, each once"),
    ("entity: [sku_id, location_id]", "entity: [sku_id, shop]", "entity", "has no column 'shop'"),
    ("    window_days: 7\n", "    window_days: seven\n", "features[0].window_days", "must be a whole number, is text"),
    ("    window_days: 7\n", "    windw_days: 7\n", "features[0].windw_days", "did you mean 'window_days'"),
    (MEAN, "    aggregation: median\n", "features[2].aggregation", "must be one of sum, count"),
    ("observed", "weekdays", "features[2].denominator", "must be one of calendar, observed, since_first"),
    ("description: Units of a week.", 'description: " "', "features[0].description", "say what the feature means"),
    ("{buyer: b1}", "{buyer: b1, units: 1}", "features[2].where", "must be one column and its value"),
    ("{buyer: b1}", "{buyer: 1.5}", "features[2].where.buyer", "must be a text, a whole number, true or false"),
    ("name: units_lag_1", "name: units_lag_1\n    for_days: [1]", "features[3].name", "must hold {days}"),
    ("name: units_lag_1", "name: x_{days}\n    for_days: [1, 1]", "features[3].for_days", "each once"),
    # Sources and the contracts behind them.
    ("table: gold/fct_demand", "table: silver/sales", "sources.sales.table", "must be a gold table"),
    ("stream: sales\n", "stream: sails\n", "sources.sales.stream", "no contract for stream 'sails'; known: "),
    ("{from: units,", "{from: unts,", "sources.sales.columns.units.from", "sales has no column 'unts'"),
    ("units, unit: units}", "units, unit: boxes}", "sources.sales.columns.units.unit", "must be 'units', the contract"),
    ("unit: units}", "unit: units, type: string}", "sources.sales.columns.units.type", "integer is not cast to string"),
    ("unit: units}", "unit: units, type: money}", "sources.sales.columns.units.type", "must be one of string"),
    ("buyer: {from", "event_time: {from", "sources.sales.columns.event_time", "choose another"),
    ("buyer: {from", "Buyer: {from", "sources.sales.columns.Buyer", "lower case"),
    ("event_time, sale_id", "sale_id", "sources.sales.fact_key", "must be [location_id, event_time, sale_id]"),
    ("[version, reversal, cancellation]", "[version]", "sources.sales.posting_kinds", "must hold version and reversal"),
    ("[version, reversal, cancellation]", "[version, reversal, gift]", "sources.sales.posting_kinds", "may hold"),
    # Features by themselves.
    ("name: units_sum__7", "name: Units", "features.Units.name", "lower case"),
    ("name: units_sum__7", "name: sku_id", "features.sku_id.name", "choose another name"),
    ("name: cents_sum__7", "name: units_sum__7", "features.units_sum__7.name", "defined twice"),
    (SUM, SUM.replace("    window_days: 7\n", ""), "features.units_sum__7.window_days", "is missing: sum needs source"),
    (SUM, SUM + "    denominator: calendar\n", "features.units_sum__7.denominator", "means nothing for sum"),
    (SUM, SUM + "    time_to_live_days: 3\n", "features.units_sum__7.time_to_live_days", "means nothing for sum"),
    (SUM, SUM + "    lag_days: 3\n", "features.units_sum__7.lag_days", "means nothing for sum, which takes source"),
    (MEAN, "    aggregation: count_nonzero\n", "features.units_mean__28.denominator", "drop it"),
    ("    denominator: observed\n", "", "features.units_mean__28.denominator", "is missing: mean needs"),
    (LAG, "    aggregation: lag\n", "features.units_lag_1.lag_days", "is missing: lag needs source, value, lag_days"),
    (LAG, LAG + "    denominator: since_first\n", "features.units_lag_1.denominator", "must be calendar"),
    (LAG, LAG + "    offset_days: 1\n", "features.units_lag_1.offset_days", "means nothing for lag"),
    ("lag_days: 1", "lag_days: 0", "features.units_lag_1.lag_days", "must be 1 to 3660 days, is 0"),
    ("window_days: 7", "window_days: -7", "features.units_sum__7.window_days", "must be 1 to 3660 days, is -7"),
    ("offset_days: 2", "offset_days: -1", "features.units_mean__28.offset_days", "must be 0 to 3660 days, is -1"),
    (TTL, "    window_days: 7\n", "features.price_now.window_days", "means nothing for last"),
    (TTL, "    where: {promotion: maybe}\n", "features.price_now.where", "is boolean and cannot equal 'maybe'"),
    (TTL, "    time_to_live_days: 0\n", "features.price_now.time_to_live_days", "must be 1 to 3660 days"),
    (
        "    source: sales\n    value: units\n" + MEAN,
        "    value: units\n" + MEAN,
        "features.units_mean__28.source",
        "mis",
    ),
    ("    source: sales\n    value", "    source: sale\n    value", "features.units_sum__7.source", "declared: sales"),
    ("    value: cents\n", "    value: euros\n", "features.cents_sum__7.value", "declared: units, cents, buyer"),
    ("    value: cents\n", "    value: buyer\n", "features.cents_sum__7.value", "declare the column with `type: int"),
    ("{buyer: b1}", "{shop: b1}", "features.units_mean__28.where", "has no column 'shop'"),
    ("{buyer: b1}", "{buyer: 1}", "features.units_mean__28.where", "is string and cannot equal 1"),
    # Ratios and units.
    (RATIO, "", "features.unit_cents__7.numerator", "is missing: ratio needs numerator, denominator_feature"),
    (RATIO, "    numerator: profit\n", "features.unit_cents__7.numerator", "'profit' does not exist"),
    (RATIO, "    numerator: unit_cents__7\n", "features.unit_cents__7.numerator", "move it up"),
    (RATIO, "    numerator: promoted\n", "features.unit_cents__7.numerator", "is no number"),
    (RATIO, RATIO + "    source: sales\n", "features.unit_cents__7.source", "means nothing for ratio"),
    ("unit: cents/units", "unit: ratio", "features.unit_cents__7.unit", "must be 'cents/units', is 'ratio'"),
    (SUM, SUM.replace("unit: units", "unit: boxes"), "features.units_sum__7.unit", "must be 'units', is 'boxes'"),
    (SUM, SUM.replace(": sum", ": count"), "features.units_sum__7.unit", "must be 'facts'"),
    (SUM, SUM.replace(": sum", ": count_nonzero"), "features.units_sum__7.unit", "must be 'days'"),
    # Time: targets and planned columns.
    (TARGET, TARGET.replace("}", ", first_day: -2}"), "features.units_sum__7.offset_days", "must be at least 2"),
    (TARGET, TARGET.replace("value: units", "value: boxes"), "targets.demand.value", "no integer column of a source"),
    (TARGET, TARGET.replace("value: units", "value: buyer"), "targets.demand.value", "no integer column of a source"),
    (TARGET, TARGET.replace("28", "0"), "targets.demand.horizon_days", "must be 1 to 3660 days"),
    (TARGET, TARGET.replace("}", ", first_day: -28}"), "targets.demand.first_day", "it must reach day t"),
    (TARGET, f"{TARGET}\n  - {TARGET}", "targets.demand.name", "declared twice"),
    (LAG, "    aggregation: last\n", "features.units_lag_1.aggregation", "use a window or a lag that ends before"),
    (
        "  - {name: price_now, reads",
        "  - {name: p, reads",
        "features.price_now.value",
        "declare `{name: price_now, rea",
    ),
    ("reads: prices.price,", "reads: prices.promotion,", "known_future.price_now.reads", "may be: calendar, prices.pr"),
    ("reads: prices.price, unit: cents", "reads: prices.price, unit: eur", "known_future.price_now.unit", "must be 'c"),
    ("name: weekday", "name: price_now", "known_future.price_now.name", "declared twice"),
    ("name: weekday", "name: units_sum__7", "known_future.units_sum__7.name", "a feature that reads no planned column"),
]


@pytest.mark.parametrize(("old", "new", "field", "rule"), MISTAKES, ids=[f"{m[2]}: {m[3][:24]}" for m in MISTAKES])
def test_a_mistake_names_file_field_and_rule(tmp_path: Path, old: str, new: str, field: str, rule: str) -> None:
    with pytest.raises(ContractError) as caught:
        small_set(tmp_path, (old, new))
    path = tmp_path / "small.yaml"
    assert str(caught.value).startswith(f"{path}: {field}: "), str(caught.value)
    assert rule in str(caught.value)


def test_a_source_may_hold_increments(tmp_path: Path) -> None:
    read = small_set(tmp_path, *INCREMENTS)
    assert (read.source("sales").grain, read.source("sales").lines) == ("increments", "lines")
    assert (read.source("prices").grain, read.source("prices").lines) == ("postings", None)


OF_CENTS = "    value: cents\n    aggregation: sum\n    window_days: 7\n"
NO_COUNT = "lines counts all facts, and cents may be null"
INCREMENT_MISTAKES = [
    ("grain: increments", "grain: sums", "sources.sales.grain", "must be one of postings, increments"),
    ("    grain: increments\n", "", "sources.sales.lines", "means nothing for postings: drop it"),
    ("    lines: lines\n", "", "sources.sales.lines", "is missing: name the column"),
    ("lines: lines", "lines: units", "sources.sales.lines", "is a column of its own"),
    ("lines: lines", "lines: sku_id", "sources.sales.lines", "is a column of its own"),
    ("lines: lines", "lines: event_date", "sources.sales.lines", "is a column of its own"),
    ("clock: daily", "clock: instant", "sources.sales.grain", "known by the day: read postings, or make the clock dai"),
    (
        "      units:",
        "      buyer: {from: customer_id, unit: text}\n      units:",
        "sources.sales.columns.buyer",
        "integers",
    ),
    (
        LAG,
        "    aggregation: lag\n    lag_days: 1\n    where: {units: 1}\n",
        "features.units_lag_1.where",
        "single facts",
    ),
    (LAG, "    aggregation: last\n", "features.units_lag_1.aggregation", "single facts"),
    (OF_CENTS, OF_CENTS.replace("sum", "min"), "features.cents_sum__7.aggregation", NO_COUNT),
    (OF_CENTS, OF_CENTS.replace("sum", "max"), "features.cents_sum__7.aggregation", NO_COUNT),
    (
        OF_CENTS,
        OF_CENTS.replace("sum", "mean") + "    denominator: observed\n",
        "features.cents_sum__7.denom",
        NO_COUNT,
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "field", "rule"), INCREMENT_MISTAKES, ids=[f"{m[2]}: {m[3][:24]}" for m in INCREMENT_MISTAKES]
)
def test_a_mistake_about_increments_says_what_to_do(tmp_path: Path, old: str, new: str, field: str, rule: str) -> None:
    with pytest.raises(ContractError) as caught:
        small_set(tmp_path, *INCREMENTS, (old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'small.yaml'}: {field}"), str(caught.value)
    assert rule in str(caught.value)


def test_a_count_of_a_value_that_may_be_null_needs_single_facts(tmp_path: Path) -> None:
    counted = OF_CENTS.replace("sum", "count")
    edits = [*INCREMENTS, (OF_CENTS, counted), ("    unit: cents\n    desc", "    unit: facts\n    desc")]
    edits.append(("unit: cents/units", "unit: facts/units"))
    with pytest.raises(ContractError, match=r"features\.cents_sum__7\.aggregation: .*may be null"):
        small_set(tmp_path, *edits)
    small_set(tmp_path, *edits[:3], (OF_CENTS, counted.replace("    value: cents\n", "")), *edits[4:])
    small_set(tmp_path, *edits[:3], (OF_CENTS, counted.replace("cents", "units")), *edits[4:])


PLANNED_FLAG = ("unit: flag}", "unit: flag, planned: true}")
WAY_OUT = r"features\.promoted\.value: prices\.promotion is planned: declare .*, or drop `planned` from the column"


def test_a_planned_filter_has_to_be_declared_too(tmp_path: Path) -> None:
    filtered = ("    aggregation: lag\n", "    where: {buyer: b1}\n    aggregation: lag\n")
    with pytest.raises(ContractError, match=r"features\.units_mean__28\.value: sales\.buyer is planned"):
        small_set(tmp_path, filtered, ("unit: text}", "unit: text, planned: true}"))


def test_a_declaration_of_another_planned_column_is_none(tmp_path: Path) -> None:
    declared = ("  - {name: weekday", "  - {name: promoted, reads: prices.promotion, unit: flag, description: Too.}\n")
    small_set(tmp_path, PLANNED_FLAG, (declared[0], declared[1] + declared[0]))
    other = declared[1].replace("prices.promotion, unit: flag", "prices.price, unit: cents")
    for kept in (declared[0], other + declared[0]):
        with pytest.raises(ContractError, match=WAY_OUT):
            small_set(tmp_path, PLANNED_FLAG, (declared[0], kept))


def test_a_source_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    unread = "sources:\n  stock:\n    table: gold/fct_stock\n    stream: stock_counts\n"
    unread += "    fact_key: [sku_id, location_id, event_time]\n"
    unread += "    columns: {on_hand: {from: on_hand_units, unit: units}}\n"
    with pytest.raises(ContractError, match=r"sources\.stock: no feature or target reads it: drop it"):
        small_set(tmp_path, ("sources:\n", unread))


def test_a_file_without_features_is_refused(tmp_path: Path) -> None:
    text = changed_text()
    path = tmp_path / "small.yaml"
    path.write_text(text[: text.index("features:\n")] + "features: []\n", encoding="utf-8")
    with pytest.raises(ContractError, match="features: must hold at least one feature"):
        read_feature_set(path, contracts())


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no feature set"):
        read_feature_sets(tmp_path, contracts())
