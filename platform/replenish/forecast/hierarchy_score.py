"""WRMSSE over the levels of a sales hierarchy, for our forecast and the baselines of the same origin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.errors import NotApplicable
from replenish.forecast.baseline_paths import EXPONENTIAL_SMOOTHING, SEASONAL_NAIVE, baseline_method
from replenish.forecast.metrics import rmsse, wrmsse
from replenish.forecast.panel import SERIES_KEY, DemandPanel, build_panel
from replenish.forecast.predict import FORECAST_TABLE
from replenish.stores.lake import DeltaLake
from replenish.units import MILLI

FloatArray = npt.NDArray[np.float64]

HIERARCHY_TABLE = "forecasts/hierarchy_scores"

TOTAL, UNUSED = "Total", "X"
"""Names of the top node and of an unused second key in a weights file."""

LEVELS: dict[int, tuple[str, ...]] = {
    1: (),
    2: ("region_id",),
    3: ("location_id",),
    4: ("category_id",),
    5: ("sku_id",),
    6: ("region_id", "category_id"),
    7: ("region_id", "sku_id"),
    8: ("location_id", "category_id"),
    9: ("location_id", "sku_id"),
}
"""Keys of each level: levels 1 to 9 of the M5 competition, with departments as sku."""

OUR_FORECAST = "replenish"


@dataclass(frozen=True)
class HierarchyFrame:
    """One row per series in panel order with the ids that levels group by, and arrays (n_series, n_periods)."""

    ids: pl.DataFrame
    history: FloatArray
    actual: FloatArray


def score_hierarchy(lake: DeltaLake, dataset: Dataset, data_folder: Path, origin: date) -> pl.DataFrame:
    """WRMSSE by level of the forecasts in `forecasts/demand`, of seasonal naive and of exponential smoothing.

    Denominators are taken from the first sale to the origin. The weights file is named by the data set's option
    `forecast: {weights: <path in the data folder>}` and has columns `level, agg_1, agg_2` and `weight_validation` (or
    the column named by `weight_column`).

    Returns:
        `level` (0 = mean over levels), `method`, `wrmsse`, `ratio_to_seasonal_naive`; also written to
        `forecasts/hierarchy_scores`.

    Raises:
        NotApplicable: No weights are declared, no forecast of the origin, or its horizon is not over yet.
    """
    profile = read_profile(dataset.profile)
    weights = _read_weights(dataset, data_folder)
    forecasts = lake.read(FORECAST_TABLE) if lake.has(FORECAST_TABLE) else pl.DataFrame()
    ours = forecasts.filter(pl.col("origin_date") == origin) if forecasts.height else forecasts
    if ours.is_empty():
        raise NotApplicable("no forecast of this origin", origin=origin, dataset=dataset.dataset_id)
    demand = lake.read("gold/fct_demand")
    panel = build_panel(demand, None, ours, known_at=origin, period_days=profile.period_days)
    frame = HierarchyFrame(_ids(lake, panel.keys), panel.units.astype(np.float64), _actuals(demand, panel, profile))
    matrix = ours.sort(*SERIES_KEY, "step")["mean_milli"].to_numpy().reshape(panel.keys.height, -1) / MILLI
    methods = {OUR_FORECAST: matrix} | {
        name: baseline_method(name, profile)(frame.history, profile.horizon_steps)
        for name in (SEASONAL_NAIVE, EXPONENTIAL_SMOOTHING)
    }
    scores = pl.concat([hierarchy_wrmsse(frame, matrix, weights, name) for name, matrix in methods.items()])
    naive = scores.filter(pl.col("method") == SEASONAL_NAIVE).select("level", naive="wrmsse")
    ratio = (pl.col("wrmsse") / pl.col("naive")).alias("ratio_to_seasonal_naive")
    result = scores.join(naive, on="level").select("level", "method", "wrmsse", ratio).sort("level", "method")
    lake.overwrite(HIERARCHY_TABLE, result)
    return result


def hierarchy_wrmsse(frame: HierarchyFrame, forecast: FloatArray, weights: pl.DataFrame, method: str) -> pl.DataFrame:
    """WRMSSE of each level that has weights, and level 0, their mean: `level, method, wrmsse`.

    Forecasts, actuals and history are summed to each node first.

    Args:
        frame: Series with their ids, history and actuals.
        forecast: Point forecasts, shape (n_series, horizon).
        weights: `level, agg_1, agg_2, weight`.
        method: Label of the rows.

    Source: Makridakis, Spiliotis and Assimakopoulos, The M5 competition, IJF 38 (2022), section 4.1.
    """
    scores = []
    for level, keys in LEVELS.items():
        of_level = weights.filter(pl.col("level") == level)
        if of_level.is_empty():
            continue
        found = {(a, b): w for a, b, w in of_level.select("agg_1", "agg_2", "weight").iter_rows()}
        errors, shares = [], []
        for node, rows in _nodes(frame.ids, keys):
            history, actual, summed = (m[rows].sum(axis=0) for m in (frame.history, frame.actual, forecast))
            errors.append(rmsse(actual, summed, history))
            shares.append(found.get(node, 0.0))
        scores.append((level, method, wrmsse(np.array(errors), np.array(shares))))
    mean = float(np.mean([value for _, _, value in scores])) if scores else float("nan")
    return pl.DataFrame([(0, method, mean), *scores], schema=["level", "method", "wrmsse"], orient="row")


def _nodes(ids: pl.DataFrame, keys: tuple[str, ...]) -> list[tuple[tuple[str, str], list[int]]]:
    nodes: dict[tuple[str, str], list[int]] = {}
    for row, values in enumerate(ids.iter_rows(named=True)):
        names = [str(values[key]) for key in keys]
        nodes.setdefault((names[0] if names else TOTAL, names[1] if len(names) > 1 else UNUSED), []).append(row)
    return sorted(nodes.items())


def _read_weights(dataset: Dataset, data_folder: Path) -> pl.DataFrame:
    options = dataset.options.get("forecast")
    name = options.get("weights") if isinstance(options, dict) else None
    if not isinstance(options, dict) or not isinstance(name, str):
        raise NotApplicable("not_applicable: no hierarchy weights are declared", dataset=dataset.dataset_id)
    path = data_folder / name
    if not path.is_file():
        raise NotApplicable("the declared weights file is not in the data folder", file=name)
    column = str(options.get("weight_column", "weight_validation"))
    return pl.read_parquet(path).select("level", "agg_1", "agg_2", pl.col(column).alias("weight"))


def _ids(lake: DeltaLake, keys: pl.DataFrame) -> pl.DataFrame:
    wanted = (("gold/dim_product", "sku_id", "category_id"), ("gold/dim_location", "location_id", "region_id"))
    for table, key, value in wanted:
        if not lake.has(table):
            raise NotApplicable("a hierarchy needs products and locations", table=table)
        live = lake.read(table).filter(pl.col("posting_sign") > 0).sort(key, "version_nr")
        newest = live.group_by(key, maintain_order=True).last().select(key, value)
        keys = keys.join(newest, on=key, how="left", maintain_order="left")
    return keys


def _actuals(demand: pl.DataFrame, panel: DemandPanel, profile: ForecastProfile) -> FloatArray:
    """What happened over the horizon, with all that is known today."""
    end = profile.target_date(panel.known_at, profile.horizon_steps + 1)
    newest = demand["event_date"].max()
    if not isinstance(newest, date) or newest < profile.target_date(panel.known_at, profile.horizon_steps):
        raise NotApplicable("the horizon of this origin is not over yet", origin=panel.known_at)
    settled = demand.with_columns(pl.min_horizontal("knowledge_date", pl.lit(end)).alias("knowledge_date"))
    later = build_panel(settled, None, panel.keys, known_at=end, period_days=profile.period_days)
    return later.units[:, -profile.horizon_steps :].astype(np.float64)
