from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from replenish.features.demand import update_feat_demand
from replenish.forecast.backtest import run_backtest
from replenish.forecast.inputs import read_inputs
from replenish.forecast.model_paths import model_forecasts
from replenish.forecast.plausible import PLAUSIBLE_UNITS_PER_DAY, implausible_periods
from replenish.forecast.train import train_model
from replenish.stores.lake import DeltaLake
from tests.unit.forecast.conftest import ORIGIN, demand_increments

ABSURD = ("A03", 8005)


def with_absurd_record(days_before_origin: int) -> pl.DataFrame:
    """The demand of the small retailer with one more record, a thousand times too large."""
    demand = demand_increments()
    day = ORIGIN - timedelta(days=days_before_origin)
    sku, units = ABSURD
    slip = demand.filter((pl.col("sku_id") == sku) & (pl.col("event_date") == day)).with_columns(
        units=pl.lit(units, dtype=pl.Int64)
    )
    return pl.concat([demand, slip])


def path_means(demand: pl.DataFrame, folder, dataset, profile) -> pl.DataFrame:
    lake = DeltaLake(folder)
    lake.overwrite("gold/fct_demand", demand)
    update_feat_demand(lake, dataset, profile)
    inputs = read_inputs(lake, profile)
    model = train_model(inputs, profile, ORIGIN)
    newest = inputs.features.filter(pl.col("origin_date") == ORIGIN)
    rows = model_forecasts(model.files, model.card, inputs, newest, profile)
    return rows.group_by("sku_id").agg(pl.col("mean_milli").mean()).sort("sku_id")


# One day: a target and the newest lag; ten: inside the lags and the scale; forty: in the older training rows.
@pytest.mark.parametrize("days_before_origin", [1, 10, 40])
def test_one_absurd_record_hardly_moves_the_forecast_of_any_series(tmp_path, dataset, profile, days_before_origin):
    plain = path_means(demand_increments(), tmp_path / "plain", dataset, profile)["mean_milli"]
    shifted = path_means(with_absurd_record(days_before_origin), tmp_path / "slip", dataset, profile)["mean_milli"]
    assert ((shifted - plain).abs() / plain).max() < 0.15


def test_a_path_with_an_absurd_actual_is_no_evidence_of_the_forecasts_errors(tmp_path, dataset, profile):
    lake = DeltaLake(tmp_path / "lake")
    lake.overwrite("gold/fct_demand", with_absurd_record(1))
    update_feat_demand(lake, dataset, profile)
    run_backtest(lake, dataset, profile, ORIGIN)
    rows = lake.read("forecasts/backtest")
    assert rows["actual_units"].max() < ABSURD[1]
    newest = rows.filter(pl.col("origin_date") == rows["origin_date"].max())
    assert ABSURD[0] not in set(newest["sku_id"])
    assert newest.group_by("sku_id", "method").len()["len"].unique().to_list() == [28]


UNITS = arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(2, 90)), elements=st.integers(0, 5000))


@given(UNITS, st.sampled_from([1, 7]))
def test_totals_up_to_the_floor_are_always_believed(units, period_days):
    assert not implausible_periods(units, period_days)[units <= PLAUSIBLE_UNITS_PER_DAY * period_days].any()


@given(UNITS)
def test_two_large_totals_nearby_vouch_for_each_other(units):
    units = np.column_stack([units[:, :20], units[:, :20].max(axis=1)])
    assert not implausible_periods(units, 1).any()


@given(UNITS, st.integers(0, 89))
def test_ten_thousand_units_among_hundreds_are_found_wherever_they_stand(units, place):
    place %= units.shape[1]
    spoilt = units % 1000
    spoilt[:, place] = 10_000
    assert implausible_periods(spoilt, 1)[:, place].all()
