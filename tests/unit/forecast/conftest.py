"""A small retailer in a lake: 12 series, 30 weeks, sales known a day later, features by the product's own code."""

from dataclasses import replace
from datetime import date, time, timedelta

import numpy as np
import polars as pl
import pytest

from replenish.contracts.dataset import Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.profile import read_profile
from replenish.features.demand import update_feat_demand
from replenish.stores.lake import DeltaLake

FIRST, N_DAYS = date(2024, 1, 1), 210
ORIGIN = FIRST + timedelta(days=N_DAYS)


def demand_increments(seed: int = 1, n_skus: int = 12) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    days = np.arange(N_DAYS)
    rates = np.array([2.0 + sku for sku in range(n_skus)])[:, None] * (1 + 0.5 * (days % 7 == 5))[None, :]
    units = rng.poisson(rates)
    sku, day = (axis.ravel() for axis in np.indices(units.shape))
    dates = [FIRST + timedelta(days=int(d)) for d in day]
    frame = pl.DataFrame(
        {
            "sku_id": [f"A{s:02d}" for s in sku],
            "location_id": ["S1"] * sku.size,
            "event_date": dates,
            "knowledge_date": [d + timedelta(days=1) for d in dates],
            "units": units.ravel().astype(np.int64),
        }
    )
    extra = {"revenue_cents": pl.col("units") * 100, "returned_units": pl.lit(0), "lines": pl.lit(1)}
    return frame.filter(pl.col("units") > 0).with_columns(**extra)


@pytest.fixture(scope="session")
def dataset():
    sales = Feed(
        "test.sales",
        "sales",
        ("sales*.csv",),
        FileFormat(),
        "Europe/Berlin",
        {},
        KnowledgeRule("delay", delay_hours=24),
    )
    return Dataset("test", "Europe/Berlin", time(6), "demo", ORIGIN, (sales,))


@pytest.fixture(scope="session")
def profile():
    demo = read_profile("demo")
    parameters = {**demo.lightgbm, "num_iterations": 8, "min_data_in_leaf": 20}
    return replace(demo, lightgbm=parameters, n_backtest_origins=4, backtest_stride=7)


@pytest.fixture
def lake(tmp_path, dataset, profile):
    made = DeltaLake(tmp_path / "lake")
    made.overwrite("gold/fct_demand", demand_increments())
    update_feat_demand(made, dataset, profile)
    return made
