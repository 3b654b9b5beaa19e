"""Two homes for one logic: the stored rows of a daily set beside the columns of `feat_demand` that mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.control.present_streams import has_stream
from replenish.errors import NotApplicable
from replenish.features.definitions.forecast_names import columns_said_twice
from replenish.features.demand import FEAT_DEMAND_TABLE, GoldFrames, build_demand_features
from replenish.features.series import DEMAND_TABLE, SERIES_COLUMNS
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.stores.lake import DeltaLake

RATIO_TOLERANCE = 1e-12
"""Relative; integers are equal or not."""

LATE, LOGIC = "late", "logic"
"""Causes: `feat_demand`, whose rows never change, was built before something of the past arrived; or its code, run
again on gold as it is now, says something else than the grid."""


@dataclass(frozen=True)
class ForecastParity:
    """How the two homes agree at one origin."""

    origin: date
    n_series: int
    n_values: int
    """Values compared."""
    differences: pl.DataFrame
    """Series columns, `feature`, `grid` and `feat_demand` (as text), `cause`."""

    @property
    def n_late(self) -> int:
        """Differences that lateness explains."""
        return self.differences.filter(pl.col("cause") == LATE).height

    @property
    def n_of_logic(self) -> int:
        """Differences that nothing explains but other logic."""
        return self.differences.filter(pl.col("cause") == LOGIC).height


def compare_with_feat_demand(
    lake: DeltaLake, grid: FeatureGrid, dataset: Dataset, profile: ForecastProfile, origin: date
) -> ForecastParity:
    """Hold the rows of a grid at an origin against those of `feat_demand`; only series that both should have.

    `feat_demand` reads gold by the code that trains, the grid reads silver by the definitions. A series that the
    forecast has and the grid lacks differs in every column; the grid may have more series than a profile chooses.

    Args:
        lake: Has both tables, and gold.
        grid: A daily set by series.
        dataset: Which streams there are.
        profile: Of the forecast; with a period of a day.
        origin: Date.

    Raises:
        NotApplicable: Periods are no days, or one of the tables has no rows at the origin.
    """
    pairs = columns_said_twice(grid.feature_set, profile.feature_columns)
    if profile.period_days != 1 or tuple(grid.feature_set.entity) != SERIES_COLUMNS or not pairs:
        raise NotApplicable("not_applicable: the forecast says nothing of days that the set says", profile=profile.name)
    trained = _rows(lake, FEAT_DEMAND_TABLE, origin, [*SERIES_COLUMNS, *pairs], profile.feature_set_id)
    stored = _rows(lake, grid.table, origin, [*SERIES_COLUMNS, *pairs.values()])
    place = [*SERIES_COLUMNS, "feature"]
    differences = _differences(trained, stored, pairs)
    still = differences.clear()
    if differences.height:
        series = differences.select(SERIES_COLUMNS).unique()
        still = _differences(_trained_now(lake, dataset, profile, origin, series), stored, pairs)
    causes = still.select(*place, cause=pl.lit(LOGIC))
    differences = differences.join(causes, on=place, how="left").with_columns(pl.col("cause").fill_null(LATE))
    differences = differences.sort("cause", *place, descending=[True, *[False] * len(place)])
    return ForecastParity(origin, trained.height, trained.height * len(pairs), differences)


def _rows(
    lake: DeltaLake, table: str, origin: date, columns: list[str], feature_set_id: str | None = None
) -> pl.DataFrame:
    """Rows of one origin; of `feat_demand` those of one of its sets."""
    stored = pl.DataFrame()
    if lake.has(table):
        rows = lake.scan(table).filter(pl.col(ORIGIN_DATE) == origin)
        if feature_set_id is not None:
            rows = rows.filter(pl.col("feature_set_id") == feature_set_id)
        stored = rows.select(columns).collect()
    if stored.is_empty():
        raise NotApplicable("not_applicable: no rows at the origin", table=table, origin=origin)
    return stored


def _trained_now(
    lake: DeltaLake, dataset: Dataset, profile: ForecastProfile, origin: date, series: pl.DataFrame
) -> pl.DataFrame:
    """What `feat_demand` would hold of some series, were it built from gold as it is now."""
    key = list(SERIES_COLUMNS)
    demand = lake.scan(DEMAND_TABLE).join(series.lazy(), on=key, how="semi").collect()
    prices = None
    if has_stream(dataset, "prices", lake) and lake.has("gold/fct_price"):
        prices = lake.scan("gold/fct_price").join(series.lazy(), on=key, how="semi").collect()
    gold = GoldFrames(demand, prices)
    return build_demand_features(gold, profile, [origin], zone=dataset.zone, cutoff=dataset.cutoff, series=series)


def _differences(trained: pl.DataFrame, stored: pl.DataFrame, pairs: dict[str, str]) -> pl.DataFrame:
    """One row per series of `trained` and feature that differ."""
    key = list(SERIES_COLUMNS)
    ours = trained.select(*key, *(pl.col(column).alias(f"{name}_trained") for column, name in pairs.items()))
    both = ours.join(stored.with_columns(_is_stored=pl.lit(True)), on=key, how="left")
    found = []
    for name in pairs.values():
        left, right = pl.col(name), pl.col(f"{name}_trained")
        differs = left.ne_missing(right)
        if pl.Float64 in (both.schema[name], both.schema[f"{name}_trained"]):
            near = (left - right).abs() <= RATIO_TOLERANCE * right.abs()
            differs &= ~near.fill_null(False)
        rows = both.filter(differs | pl.col("_is_stored").is_null())
        texts = {"grid": left.cast(pl.String), "feat_demand": right.cast(pl.String)}
        found.append(rows.select(*key, feature=pl.lit(name), **texts))
    return pl.concat(found)
