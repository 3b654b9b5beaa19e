"""The rows of a feature grid at some origins, from as little of each ledger as they need.

A window of bounded width reads the event days that it covers. Two kinds of features look back without bound: the
newest active day, and divisors that count from the first one. Recent days settle them nearly always: an active day
among them is the newest there is, and one before the window makes its divisor the full width. Where they do not, more
of the ledger of these keys is read, in the end all of it. The age of a series needs all, unless the rows of the origin
before are there: then only the keys that news says something old of. Latest values come from the stored state logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from replenish.bitemporal import MATCHED_EVENT_TIME
from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.measure_features import feature_window
from replenish.features.offline.measures import latest_of
from replenish.features.state_logs.grid_ages import FIRST_DAY, carried_first_days
from replenish.features.state_logs.grid_definition import AS_OF, ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.look_up import stored_as_of_join
from replenish.stores.lake import DeltaLake

LOOK_BACKS_DAYS = (14, 75, None)
"""Days before the windows that are read for features without bound, one after the other until they settle them."""

_ROW = "_grid_row"
_OPEN = "_grid_open"
_AGE = "days_since_first"
_UNBOUNDED = ("days_since", _AGE)


def grid_rows(
    lake: DeltaLake,
    grid: FeatureGrid,
    keys: pl.DataFrame,
    origins: Sequence[date],
    versions: Mapping[str, int],
    before: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Features of keys at origins, each as known at the origin's cut-off.

    Args:
        lake: Has the sources' tables and the state logs behind the set, brought up to date with them.
        grid: Which set.
        keys: The entity's columns.
        origins: Consecutive dates.
        versions: Version of each source's table that is read.
        before: Rows of the origin before the first, taken from these versions; saves reading what they settle.

    Returns:
        Entity, `origin_date`, `as_of` and the features in the set's order; in order of origin and key.
    """
    spine = grid.spine(keys, origins)
    rows = _windowed(lake, grid, spine, versions)
    rows = _aged(lake, grid, rows, versions, before)
    rows = _latest(lake, grid, rows)
    for feature in grid.feature_set.features:
        if feature.aggregation == "ratio":
            above, below = pl.col(str(feature.numerator)), pl.col(str(feature.denominator_feature))
            quotient = above.cast(pl.Float64) / below.cast(pl.Float64)
            rows = rows.with_columns(pl.when(below != 0).then(quotient).alias(feature.name))
    return rows.select(*spine.columns, *grid.feature_set.feature_names)


def _windowed(lake: DeltaLake, grid: FeatureGrid, spine: pl.DataFrame, versions: Mapping[str, int]) -> pl.DataFrame:
    """The spine with all features but ages, latest values and ratios."""
    wanted = [f for f in grid.feature_set.features if f.aggregation not in (_AGE, "last", "ratio")]
    if not wanted or spine.is_empty():
        return spine.with_columns(pl.lit(None, dtype=pl.Int64).alias(f.name) for f in wanted)
    helpers = {f.name: _age_of(f) for f in wanted if f.denominator == "since_first"}
    open_ones = [f for f in wanted if f.aggregation == "days_since" or f.name in helpers]
    rows = _evaluated(lake, grid, spine, versions, (*wanted, *helpers.values()), LOOK_BACKS_DAYS[0], None)
    is_settled = pl.all_horizontal(pl.lit(True), *(_is_settled(f, helpers.get(f.name)) for f in open_ones))
    for look_back in LOOK_BACKS_DAYS[1:]:
        found = _of_keys(lake, grid, rows, ~is_settled, versions, (*open_ones, *helpers.values()), look_back)
        if found is None:
            break
        rows = found
    return rows.drop(helper.name for helper in helpers.values())


def _aged(
    lake: DeltaLake, grid: FeatureGrid, rows: pl.DataFrame, versions: Mapping[str, int], before: pl.DataFrame | None
) -> pl.DataFrame:
    """The rows with the ages of their series."""
    ages = [f for f in grid.feature_set.features if f.aggregation == _AGE]
    rows = rows.with_columns(pl.lit(None, dtype=pl.Int64).alias(f.name) for f in ages)
    if not ages or rows.is_empty():
        return rows
    key = list(grid.feature_set.entity)
    rows = rows.with_columns(pl.lit(before is None).alias(_OPEN))
    if before is not None:
        last = rows[ORIGIN_DATE][-1]
        for age in ages:
            carried = carried_first_days(lake, grid, age, before, last, versions)
            carried = carried.with_columns(_is_carried=pl.lit(True))
            rows = rows.join(carried, on=key, how="left", nulls_equal=True, maintain_order="left")
            days = (pl.col(ORIGIN_DATE) - pl.col(FIRST_DAY)).dt.total_days()
            rows = rows.with_columns(days.alias(age.name), pl.col(_OPEN) | pl.col("_is_carried").is_null())
            rows = rows.drop(FIRST_DAY, "_is_carried")
    found = _of_keys(lake, grid, rows, pl.col(_OPEN), versions, tuple(ages), None)
    return (rows if found is None else found).drop(_OPEN)


def _of_keys(
    lake: DeltaLake,
    grid: FeatureGrid,
    rows: pl.DataFrame,
    which: pl.Expr,
    versions: Mapping[str, int],
    features: tuple[FeatureDefinition, ...],
    look_back: int | None,
) -> pl.DataFrame | None:
    """The rows with some features read again for the keys of some of them; None where these are none."""
    key = list(grid.feature_set.entity)
    keys = rows.filter(which).select(key).unique()
    if keys.is_empty():
        return None
    numbered = rows.with_row_index(_ROW)
    again = numbered.join(keys, on=key, how="semi", nulls_equal=True).select(_ROW, *key, ORIGIN_DATE, AS_OF)
    found = _evaluated(lake, grid, again, versions, features, look_back, keys)
    return _replaced(numbered, found.drop(*key, ORIGIN_DATE, AS_OF)).drop(_ROW)


def _evaluated(
    lake: DeltaLake,
    grid: FeatureGrid,
    spine: pl.DataFrame,
    versions: Mapping[str, int],
    features: tuple[FeatureDefinition, ...],
    look_back: int | None,
    keys: pl.DataFrame | None,
) -> pl.DataFrame:
    """The spine with some features, from event days up to `look_back` days before what they need; None = from all."""
    first, last = spine[ORIGIN_DATE].min(), spine[ORIGIN_DATE].max()
    if not isinstance(first, date) or not isinstance(last, date):
        raise OutOfRange("a grid without origins")
    of_set = replace(grid.feature_set, features=features)
    days = {
        name: (None if look_back is None else first - timedelta(days=reach), last)
        for name, reach in _reaches(of_set, look_back or 0).items()
    }
    return evaluate(of_set, spine, _ledgers(lake, grid, versions, days, keys), grid.zone, grid.cutoff)


def _age_of(feature: FeatureDefinition) -> FeatureDefinition:
    """The age of a feature's series, under a name that no feature of a set can have."""
    fields = {"window_days": None, "offset_days": 0, "denominator": None}
    return replace(feature, name=f"_age_of_{feature.name}", aggregation=_AGE, **fields)  # type: ignore[arg-type]


def _is_settled(feature: FeatureDefinition, helper: FeatureDefinition | None) -> pl.Expr:
    """Whether recent days alone give the value that the whole ledger gives."""
    if helper is not None:
        return (pl.col(helper.name) >= (feature.window_days or 0) + feature.offset_days).fill_null(False)
    return pl.col(feature.name).is_not_null() if feature.aggregation == "days_since" else pl.lit(False)


def _reaches(feature_set: FeatureSet, look_back: int) -> dict[str, int]:
    """By source, how many days before an origin are read."""
    found: dict[str, int] = {}
    for feature in feature_set.features:
        reach = look_back if feature.aggregation in _UNBOUNDED else feature_window(feature).last
        reach += look_back if feature.denominator == "since_first" else 0
        found[str(feature.source)] = max(reach, found.get(str(feature.source), 0))
    return found


def _ledgers(
    lake: DeltaLake,
    grid: FeatureGrid,
    versions: Mapping[str, int],
    days: Mapping[str, tuple[date | None, date]],
    keys: pl.DataFrame | None,
) -> dict[str, pl.DataFrame]:
    """Postings of the event days [first, last) of each source, of all keys or of some."""
    found = {}
    for name, (first, last) in days.items():
        table = grid.tables[name]
        day = pl.col(table.stored_name("event_date"))
        stored = lake.scan(table.table, version=versions[name]).filter(day < last)
        rows = grid.ledger(name, stored if first is None else stored.filter(day >= first))
        if keys is not None:
            rows = rows.join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
        found[name] = rows.collect(engine="streaming")
    return found


def _replaced(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the values of `found` in the rows that it has."""
    names = [name for name in found.columns if name != _ROW]
    marked = found.with_columns(_is_found=pl.lit(True))
    both = rows.join(marked, on=_ROW, how="left", suffix="_found", maintain_order="left")
    chosen = [pl.when("_is_found").then(pl.col(f"{name}_found")).otherwise(pl.col(name)).alias(name) for name in names]
    return both.with_columns(chosen).select(rows.columns)


def _latest(lake: DeltaLake, grid: FeatureGrid, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with all features that read a latest value."""
    features_of = latest_of(grid.feature_set)
    for logs in grid.logs().values():
        for log, _ in logs:
            spine = rows.select(*log.entity, AS_OF)
            found = stored_as_of_join(spine, lake, log, as_of=AS_OF, values=log.value_names)
            age = found[AS_OF] - found[MATCHED_EVENT_TIME]
            for feature in features_of[log.source, log.where]:
                value = found[str(feature.value)].alias(feature.name)
                if feature.time_to_live_days is not None:
                    is_fresh = age <= timedelta(days=feature.time_to_live_days)
                    value = pl.select(pl.when(is_fresh).then(value).alias(feature.name)).to_series()
                rows = rows.with_columns(value)
    return rows
