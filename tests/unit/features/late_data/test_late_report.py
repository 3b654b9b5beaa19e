"""The report of one origin: a sale that came three days late changes features, a forecast and an order."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.bitemporal import knowledge_date_expr
from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.errors import AuditFailed, NotApplicable
from replenish.features.demand import update_feat_demand
from replenish.features.late_data.effects import ORDER_LINE_SCHEMA, feature_effects, order_changes, order_effects
from replenish.features.late_data.report import LateReport, late_report, write_late_report
from replenish.stores.lake import DeltaLake

FIRST = date(2025, 3, 1)
REPORT = date(2025, 3, 20)
LATE_DAY, KNOWN_DAY = date(2025, 3, 12), date(2025, 3, 16)
"""A sale of 40 units that the origin of the 16th is the first to know: due on the 13th, so three origins late."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml")


@pytest.fixture(scope="module")
def profile() -> ForecastProfile:
    return read_profile("demo")


def sales(*, with_late: bool) -> pl.DataFrame:
    days = [FIRST + timedelta(days=n) for n in range(19)]
    rows = [(f"r{n}", day, day + timedelta(days=1), 2) for n, day in enumerate(days)]
    if with_late:
        rows.append(("late", LATE_DAY, KNOWN_DAY, 40))
    return pl.DataFrame(
        [
            {
                "location_id": "S1",
                "sold_at": datetime(day.year, day.month, day.day, 11, tzinfo=UTC),
                "sale_id": sale,
                "sku_id": "A1",
                "units": units,
                "event_date": day,
                "knowledge_time": datetime(known.year, known.month, known.day, 3, tzinfo=UTC),
                "knowledge_date": known,
                "version_nr": 1,
                "posting_kind": "version",
                "posting_sign": 1,
            }
            for sale, day, known, units in rows
        ]
    )


def world(root: Path, dataset: Dataset, profile: ForecastProfile, *, with_late: bool) -> DeltaLake:
    """A lake of one series, with features up to the report's origin and decisions at two origins."""
    lake, silver = DeltaLake(root), sales(with_late=with_late)
    known = silver.select(knowledge_date_expr("knowledge_time", dataset.zone, dataset.cutoff)).to_series()
    assert known.to_list() == silver["knowledge_date"].to_list()
    lake.append("silver/sales", silver)
    lake.append("bronze/sales", silver.with_columns(feed_id=pl.lit("till")))
    increments = silver.group_by("sku_id", "location_id", "event_date", "knowledge_date").agg(pl.col("units").sum())
    columns = {"revenue_cents": pl.col("units") * 100, "returned_units": 0, "lines": 1}
    lake.append("gold/fct_demand", increments.with_columns(**columns))
    update_feat_demand(lake, dataset, profile, through=REPORT)
    item = {"sku_id": "A1", "location_id": "S1", "revision": 1}
    # Of the second one the policy of today would order another quantity.
    decided = [{"origin_date": day, **item, "order_units": n} for day, n in ((date(2025, 3, 14), 14), (REPORT, 13))]
    lake.append("decisions/replenishment", pl.DataFrame(decided), partition_by=["origin_date"])
    return lake


def replay(lake: DeltaLake, origin: date) -> pl.DataFrame:
    """Forecasts the sum of seven days and orders as much, at three euros a unit."""
    row = lake.read("features/feat_demand").row(0, named=True)
    assert row["origin_date"] == origin
    units = row["units_sum__7"]
    key = {"origin_date": origin, "sku_id": "A1", "location_id": "S1"}
    forecast = pl.DataFrame([{**key, "step": step, "mean_milli": units * 100} for step in (1, 2)])
    lake.replace_partitions("forecasts/demand", forecast, column="origin_date", values=[origin])
    line = {"sku_id": "A1", "location_id": "S1", "order_units": units, "order_cost_cents": units * 300}
    return pl.DataFrame([{**line, "verdict": "auto"}], schema=ORDER_LINE_SCHEMA)


def report_of(lake: DeltaLake, dataset: Dataset, profile: ForecastProfile) -> LateReport:
    return late_report(lake, dataset, read_contracts(), profile, REPORT, replay)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, profile: ForecastProfile) -> DeltaLake:
    return world(tmp_path_factory.mktemp("late") / "lake", dataset, profile, with_late=True)


def test_a_late_sale_changes_features_at_the_origins_that_went_without_it(
    late: DeltaLake, dataset: Dataset, profile: ForecastProfile
) -> None:
    effects = report_of(late, dataset, profile).effects
    sums = effects.filter((pl.col("subject") == "units_sum__7") & (pl.col("n_changed") > 0))
    assert sums.select("origin_date", "n_changed", "net_change_milli").rows() == [
        (date(2025, 3, day), 1, 40_000) for day in (13, 14, 15)
    ]
    lag = effects.filter((pl.col("subject") == "units_lag_2") & (pl.col("n_changed") > 0))
    assert lag["origin_date"].to_list() == [date(2025, 3, 14)]


def test_forecasts_and_orders_are_counted_in_units_and_cents(
    late: DeltaLake, dataset: Dataset, profile: ForecastProfile
) -> None:
    report = report_of(late, dataset, profile)
    forecasts = report.effects.filter(pl.col("effect") == "forecast").select("origin_date", "n_compared", "n_changed")
    assert forecasts.rows() == [(date(2025, 3, 14), 2, 2), (REPORT, 2, 0)]
    names = ["origin_date", "n_changed", "absolute_change_milli", "net_change_cents", "n_as_recorded"]
    orders = report.effects.filter(pl.col("effect") == "order").select(names)
    assert orders.rows() == [(date(2025, 3, 14), 1, 40_000, 12_000, 1), (REPORT, 0, 0, 0, 0)]
    assert report.orders.select("origin_date", "order_units", "order_units_on_time").rows() == [
        (date(2025, 3, 14), 14, 54)
    ]


def test_the_late_row_itself_is_told(late: DeltaLake, dataset: Dataset, profile: ForecastProfile) -> None:
    rows = report_of(late, dataset, profile).rows
    assert rows.filter(pl.col("days_late") > 0).select("stream", "feed_id", "days_late", "n_rows").rows() == [
        ("sales", "till", 3, 1)
    ]


def test_without_late_rows_nothing_would_have_changed(
    tmp_path: Path, dataset: Dataset, profile: ForecastProfile
) -> None:
    report = report_of(world(tmp_path / "lake", dataset, profile, with_late=False), dataset, profile)
    assert report.effects["n_changed"].sum() == 0
    assert report.effects.height > 100
    assert report.orders.is_empty()


def test_what_became_known_after_the_report_has_no_influence(
    late: DeltaLake, tmp_path: Path, dataset: Dataset, profile: ForecastProfile
) -> None:
    before = report_of(late, dataset, profile)
    lake = world(tmp_path / "lake", dataset, profile, with_late=True)
    day = REPORT + timedelta(days=2)
    later = (
        sales(with_late=True)
        .tail(1)
        .with_columns(
            sale_id=pl.lit("later"),
            knowledge_time=pl.lit(datetime(day.year, day.month, day.day, 3, tzinfo=UTC)),
            knowledge_date=pl.lit(day),
        )
    )
    lake.append("silver/sales", later)
    row = lake.read("gold/fct_demand").head(1).with_columns(event_date=LATE_DAY, knowledge_date=day)
    lake.append("gold/fct_demand", row)
    after = report_of(lake, dataset, profile)
    assert after.effects.equals(before.effects)
    assert after.rows.equals(before.rows)


def test_a_report_written_twice_is_there_once(late: DeltaLake, dataset: Dataset, profile: ForecastProfile) -> None:
    report = report_of(late, dataset, profile)
    commits = [write_late_report(late, report, REPORT) for _ in range(2)]
    assert [commit.n_rows for commit in commits] == [report.effects.height] * 2
    assert late.row_count("monitoring/late_rows") == report.rows.height


def test_refused_effects_are_not_written(late: DeltaLake, dataset: Dataset, profile: ForecastProfile) -> None:
    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    before = late.version("monitoring/late_rows")
    with pytest.raises(AuditFailed):
        write_late_report(late, report_of(late, dataset, profile), REPORT, refuse)
    assert late.version("monitoring/late_rows") == before


def test_a_data_set_without_features_has_no_report(tmp_path: Path, dataset: Dataset, profile: ForecastProfile) -> None:
    with pytest.raises(NotApplicable):
        report_of(DeltaLake(tmp_path / "lake"), dataset, profile)


def test_a_row_that_only_one_side_has_counts_as_changed() -> None:
    key = {"sku_id": ["A"], "origin_date": [REPORT]}
    known = pl.DataFrame({**key, "x": [None], "y": [None]}, schema_overrides={"x": pl.Int64, "y": pl.Float64})
    punctual = pl.DataFrame({"sku_id": ["A", "B"], "origin_date": [REPORT] * 2, "x": [3, 4], "y": [None, None]})
    punctual = punctual.with_columns(pl.col("y").cast(pl.Float64))
    effects = feature_effects(known, punctual, ["sku_id", "origin_date"], ["x", "y"])
    assert effects.select("subject", "n_compared", "n_changed", "net_change_milli").rows() == [
        ("x", 2, 2, 0),
        ("y", 2, 0, 0),
    ]


def test_another_verdict_is_a_change_too() -> None:
    line = {"sku_id": "A", "location_id": "S", "order_units": 5, "order_cost_cents": None, "verdict": "auto"}
    known = pl.DataFrame([line], schema=ORDER_LINE_SCHEMA)
    changed = order_changes(known, known.with_columns(verdict=pl.lit("approval")), REPORT)
    assert changed.select("verdict", "verdict_on_time").rows() == [("auto", "approval")]
    (effect,) = order_effects(known, changed, REPORT, {("A", "S"): 4}).iter_rows(named=True)
    assert (effect["n_changed"], effect["net_change_cents"], effect["n_as_recorded"]) == (1, 0, 0)
