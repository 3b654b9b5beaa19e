from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from replenish.errors import NotApplicable
from replenish.forecast.hierarchy_score import LEVELS, HierarchyFrame, hierarchy_wrmsse, score_hierarchy
from replenish.forecast.predict import forecast_origin
from replenish.stores.registry import ModelRegistry
from tests.unit.forecast.conftest import ORIGIN

PAST = ORIGIN - timedelta(days=28)

IDS = pl.DataFrame(
    {
        "sku_id": ["A", "B", "A", "B"],
        "location_id": ["S1", "S1", "S2", "S2"],
        "category_id": ["C"] * 4,
        "region_id": ["R"] * 4,
    }
)
WEIGHTS = pl.DataFrame(
    {
        "level": [1, 5, 5],
        "agg_1": ["Total", "A", "B"],
        "agg_2": ["X"] * 3,
        "weight": [1.0, 0.25, 0.75],
    }
)


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    return HierarchyFrame(IDS, rng.poisson(9.0, (4, 60)).astype(float), rng.poisson(9.0, (4, 28)).astype(float))


def by_level(scores: pl.DataFrame) -> dict[int, float]:
    return dict(scores.select("level", "wrmsse").iter_rows())


def test_a_perfect_forecast_scores_zero_on_every_level(frame):
    scores = by_level(hierarchy_wrmsse(frame, frame.actual, WEIGHTS, "perfect"))
    assert scores == {0: 0.0, 1: 0.0, 5: 0.0}


def test_a_level_is_scored_on_the_sums_of_its_nodes(frame):
    forecast = frame.actual + np.array([[3.0], [1.0], [-3.0], [1.0]])
    scores = by_level(hierarchy_wrmsse(frame, forecast, WEIGHTS, "shifted"))

    def scale(rows: list[int]) -> float:
        return float(np.sqrt((np.diff(frame.history[rows].sum(axis=0)) ** 2).mean()))

    # Errors of A cancel between the locations; those of B add up to two units a day, in the total as well.
    assert scores[5] == pytest.approx(0.75 * 2.0 / scale([1, 3]))
    assert scores[1] == pytest.approx(2.0 / scale([0, 1, 2, 3]))
    assert scores[0] == pytest.approx((scores[1] + scores[5]) / 2)


def test_the_order_of_the_series_does_not_matter(frame):
    forecast, order = frame.history[:, -28:], [2, 0, 3, 1]
    turned = HierarchyFrame(IDS[order], frame.history[order], frame.actual[order])
    plain = hierarchy_wrmsse(frame, forecast, WEIGHTS, "x")
    assert hierarchy_wrmsse(turned, forecast[order], WEIGHTS, "x").equals(plain)


@pytest.fixture
def scored(lake, dataset, profile, tmp_path):
    """The small retailer with a forecast four weeks ago and equal weights for everything."""
    columns = {"posting_sign": 1, "version_nr": 1}
    skus = lake.read("gold/fct_demand").select("sku_id").unique().sort("sku_id")
    extra = [pl.lit(value).alias(name) for name, value in columns.items()]
    lake.overwrite("gold/dim_product", skus.with_columns(pl.lit("C1").alias("category_id"), *extra))
    location = pl.DataFrame({"location_id": ["S1"], "region_id": ["R1"]})
    lake.overwrite("gold/dim_location", location.with_columns(*extra))
    forecast_origin(lake, ModelRegistry(tmp_path / "registry"), dataset, profile, PAST)
    weights = pl.DataFrame({"level": [1, 3], "agg_1": ["Total", "S1"], "agg_2": ["X", "X"]})
    weights.with_columns(pl.lit(1.0).alias("weight_validation")).write_parquet(tmp_path / "weights.parquet")
    return replace(dataset, options={"forecast": {"weights": "weights.parquet"}})


def test_forecasts_are_scored_beside_the_baselines_and_the_scores_are_kept(lake, scored, tmp_path):
    scores = score_hierarchy(lake, scored, tmp_path, PAST)
    assert set(scores["method"]) == {"replenish", "seasonal_naive", "exponential_smoothing"}
    assert set(scores["level"]) == {0, 1, 3}
    # Without a model the forecast is seasonal naive, so both have one score.
    ours = scores.filter(pl.col("method") == "replenish")
    assert ours["ratio_to_seasonal_naive"].to_list() == pytest.approx([1.0] * 3)
    assert lake.read("forecasts/hierarchy_scores").height == scores.height


def test_an_origin_whose_horizon_is_not_over_has_no_score(lake, scored, profile, tmp_path):
    forecast_origin(lake, ModelRegistry(tmp_path / "registry"), scored, profile, ORIGIN)
    with pytest.raises(NotApplicable):
        score_hierarchy(lake, scored, tmp_path, ORIGIN)


def test_without_declared_weights_there_is_no_score(lake, dataset, tmp_path):
    with pytest.raises(NotApplicable):
        score_hierarchy(lake, dataset, tmp_path, PAST)


def test_the_levels_are_those_of_the_competition():
    assert [len(keys) for keys in LEVELS.values()] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
