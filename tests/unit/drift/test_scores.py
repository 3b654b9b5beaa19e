"""Scores of an origin from a small lake: first looks, freshest forecasts, and rows that say what was compared."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.drift.daily_errors import first_look_actuals, freshest_forecasts, read_category_errors
from replenish.drift.report import write_evidently_report
from replenish.drift.scores import DRIFT_TABLE, score_drift
from replenish.errors import AuditFailed, NotApplicable
from replenish.stores.lake import DeltaLake

ORIGIN = date(2025, 2, 4)
N_SKUS = 40
SKUS = [f"A{n:02}" for n in range(N_SKUS)]
PROFILE = read_profile("demo")


def day(back: int) -> date:
    return ORIGIN - timedelta(days=back)


def put_demand(lake: DeltaLake, factor: float = 1.0, late_units: int = 0) -> None:
    draw = np.random.default_rng(1)
    rows = []
    for sku in SKUS:
        for back in range(1, 80):
            units = int(draw.poisson(6) * (factor if back <= 3 and sku < "A20" else 1.0))
            rows.append((sku, "S1", day(back), day(back - 1), units))
    rows += [(sku, "S1", day(3), ORIGIN, late_units) for sku in SKUS if late_units]
    schema = {"sku_id": pl.String, "location_id": pl.String, "event_date": pl.Date, "knowledge_date": pl.Date}
    lake.overwrite("gold/fct_demand", pl.DataFrame(rows, schema={**schema, "units": pl.Int64}, orient="row"))


def small_lake(root: Path, factor: float = 1.0, late_units: int = 0) -> DeltaLake:
    lake = DeltaLake(root)
    put_demand(lake, factor, late_units)
    forecasts = [(day(back), sku, "S1", 1, day(back), 6_000) for sku in SKUS for back in range(70)]
    names = ["origin_date", "sku_id", "location_id", "step", "target_date", "mean_milli"]
    lake.overwrite(
        "forecasts/demand", pl.DataFrame(forecasts, schema=names, orient="row"), partition_by=["origin_date"]
    )
    versions = [(sku, "C1" if sku < "A20" else "C2", day(300), 1) for sku in SKUS]
    names = ["sku_id", "category_id", "knowledge_time", "version_nr"]
    lake.overwrite("gold/dim_product", pl.DataFrame(versions, schema=names, orient="row"))
    return lake


def put_features(lake: DeltaLake, profile: ForecastProfile, shift: float) -> None:
    draw = np.random.default_rng(2)
    rows = [
        (sku, "S1", day(back), profile.feature_set_id, float(draw.normal(10 + (shift if back < 28 else 0), 2)))
        for sku in SKUS
        for back in range(84)
    ]
    names = ["sku_id", "location_id", "origin_date", "feature_set_id", "units_mean__28"]
    lake.overwrite("features/feat_demand", pl.DataFrame(rows, schema=names, orient="row"))


def breaches(lake: DeltaLake) -> set[tuple[str, str]]:
    rows = lake.read(DRIFT_TABLE).filter(pl.col("is_breach"))
    return set(rows.select("signal", "subject").iter_rows())


def test_a_category_that_sells_twice_as_much_is_the_only_one_in_breach(tmp_path: Path) -> None:
    lake = small_lake(tmp_path, factor=2.0)
    score_drift(lake, PROFILE, ORIGIN)
    assert breaches(lake) == {("error", "C1")}


def test_a_quiet_world_has_scores_and_no_breach(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    put_features(lake, PROFILE, 0.0)
    score_drift(lake, PROFILE, ORIGIN)
    scored = lake.read(DRIFT_TABLE)
    assert {"error", "input"} <= set(scored["signal"]) and breaches(lake) == set()


def test_an_input_that_moved_lights_the_input_signal_alone(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    put_features(lake, PROFILE, 3.0)
    score_drift(lake, PROFILE, ORIGIN)
    assert breaches(lake) == {("input", "units_mean__28")}


def test_the_same_origin_again_replaces_its_rows(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    one, two = score_drift(lake, PROFILE, ORIGIN), score_drift(lake, PROFILE, ORIGIN)
    assert one.n_rows == two.n_rows > 0


def test_records_that_come_late_do_not_change_a_first_look(tmp_path: Path) -> None:
    plain = read_category_errors(small_lake(tmp_path / "plain"), PROFILE, ORIGIN)
    late = read_category_errors(small_lake(tmp_path / "late", late_units=50), PROFILE, ORIGIN)
    assert all(np.array_equal(a.actual, b.actual) for a, b in zip(plain, late, strict=True))


def test_a_first_look_ends_with_the_period() -> None:
    rows = [
        ("A", "S", day(3), day(2), 5),
        ("A", "S", day(3), day(1), 7),
        ("A", "S", day(9), day(2), 11),
    ]
    names = ["sku_id", "location_id", "event_date", "knowledge_date", "units"]
    demand = pl.DataFrame(rows, schema=names, orient="row")
    daily = first_look_actuals(demand, pl.DataFrame({"target_date": [day(3), day(2)]}), 1)
    assert daily.rows() == [("A", "S", day(3), 5)]
    weekly = first_look_actuals(demand, pl.DataFrame({"target_date": [day(9), day(2)]}), 7)
    assert weekly.rows() == [("A", "S", day(9), 5 + 11)]


def test_the_forecast_made_last_counts() -> None:
    rows = [("A", "S", day(9), day(1), 1), ("A", "S", day(2), day(1), 2), ("A", "S", day(5), day(1), 3)]
    names = ["sku_id", "location_id", "origin_date", "target_date", "mean_milli"]
    assert freshest_forecasts(pl.DataFrame(rows, schema=names, orient="row"))["mean_milli"].to_list() == [2]


def test_refused_scores_are_not_written(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)

    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    with pytest.raises(AuditFailed):
        score_drift(lake, PROFILE, ORIGIN, audit=refuse)
    assert not lake.has(DRIFT_TABLE)


def test_a_report_without_features_is_not_applicable(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        write_evidently_report(small_lake(tmp_path), PROFILE, ORIGIN, tmp_path / "reports")
