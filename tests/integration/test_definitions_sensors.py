"""Sensors: a set of files is requested once, a breach or a failed run is alerted once, an episode retrains once."""

import os
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
import time_machine

from assets.alerts import run_alerts, step_owners
from assets.event_log import feed_key
from replenish.contracts.reader import read_contracts
from replenish.drift.scores import DRIFT_SCHEMA, DRIFT_TABLE
from tests.scenario.code_location import CodeLocation

START = datetime(2025, 3, 3, 8, tzinfo=UTC)
SALES_FILE = "store,receipt,line,sold_at,article,qty,amount,customer,op,recorded_at\n"
SALES_LINE = "S1,{nr},1,2025-03-01T10:00:00+01:00,A001,2,3.00,,I,2025-03-01T22:00:00+01:00\n"


def offer(deployment: CodeLocation, name: str, nr: int, at: datetime) -> None:
    path = deployment.drop / name
    path.write_text(SALES_FILE + SALES_LINE.format(nr=nr), encoding="utf-8")
    os.utime(path, (at.timestamp(), at.timestamp()))


@pytest.fixture
def deployment(tmp_path) -> CodeLocation:
    return CodeLocation(tmp_path / "root")


def test_a_set_of_files_is_asked_for_under_one_run_key(deployment) -> None:
    offer(deployment, "sales-2025-03-01.csv", 1, START)
    first, _ = deployment.look("file_drop")
    second, _ = deployment.look("file_drop")
    assert len(first) == 1
    assert first == second


def test_files_that_were_taken_in_are_not_asked_for_again(deployment) -> None:
    offer(deployment, "sales-2025-03-01.csv", 1, START)
    deployment.ingest()
    assert deployment.look("file_drop")[0] == []


def test_a_file_written_anew_under_its_old_name_is_asked_for(deployment) -> None:
    offer(deployment, "sales-2025-03-01.csv", 1, START)
    first, _ = deployment.look("file_drop")
    deployment.ingest()
    offer(deployment, "sales-2025-03-01.csv", 2, datetime.now(UTC) + timedelta(minutes=1))
    again, _ = deployment.look("file_drop")
    assert len(again) == 1
    assert again != first


def test_a_file_that_no_feed_wants_starts_nothing(deployment) -> None:
    (deployment.drop / "holiday-photos.zip").write_bytes(b"zip")
    assert deployment.look("file_drop")[0] == []


def test_only_a_new_file_makes_its_feed_fresh(deployment) -> None:
    key = dg.AssetKey(feed_key("sales"))
    offer(deployment, "sales-2025-03-01.csv", 1, START)
    deployment.ingest()
    arrived = deployment.instance.get_latest_materialization_event(key).timestamp
    deployment.ingest()
    assert deployment.instance.get_latest_materialization_event(key).timestamp == arrived


def test_a_stopped_feed_warns_then_fails_alerts_once_and_recovers(deployment) -> None:
    sla = read_contracts()["sales"].sla
    arrival = dg.AssetMaterialization(feed_key("sales"))
    seen = []
    for hours in (0.0, sla.warn_after_hours + 1, sla.fail_after_hours + 1, sla.fail_after_hours + 9):
        with time_machine.travel(START + timedelta(hours=hours), tick=False):
            if hours == 0.0:
                deployment.instance.report_runless_asset_event(arrival)
            deployment.judge_freshness()
            deployment.look("freshness_alerts")
            seen.append((deployment.state("sales"), len(deployment.alerts())))
    assert seen == [("PASS", 0), ("WARN", 0), ("FAIL", 1), ("FAIL", 1)]
    (alert,) = deployment.alerts()
    assert (alert["owner"], alert["runbook"]) == ("sales_data", "docs/runbooks/feeds.md#sales")
    with time_machine.travel(START + timedelta(hours=sla.fail_after_hours + 10), tick=False):
        deployment.instance.report_runless_asset_event(arrival)
        deployment.judge_freshness()
        deployment.look("freshness_alerts")
    assert (deployment.state("sales"), len(deployment.alerts())) == ("PASS", 1)


def test_a_second_breach_of_the_same_feed_is_a_second_alert(deployment) -> None:
    hours = read_contracts()["sales"].sla.fail_after_hours + 1
    for breach in (1, 2):
        begun = START + timedelta(hours=breach * 1000)
        with time_machine.travel(begun, tick=False):
            deployment.instance.report_runless_asset_event(dg.AssetMaterialization(feed_key("sales")))
        with time_machine.travel(begun + timedelta(hours=hours), tick=False):
            deployment.judge_freshness()
            deployment.look("freshness_alerts")
    assert len(deployment.alerts()) == 2


def test_a_failed_run_is_alerted_once_with_owner_and_runbook(deployment) -> None:
    (deployment.root / "dataset.yaml").unlink()
    job = deployment.definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("event_log")], instance=deployment.instance, raise_on_error=False
    )
    sensor = deployment.definitions.resolve_sensor_def("failure_alerts")
    context = dg.build_run_status_sensor_context(
        sensor_name="failure_alerts",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=deployment.instance,
        dagster_run=result.dagster_run,
        resources=deployment.resources,
    ).for_run_failure()
    sensor(context)
    sensor(context)
    (alert,) = deployment.alerts()
    assert (alert["owner"], alert["runbook"], alert["affected"]) == (
        "data_platform",
        "docs/runbooks/runs.md",
        ["event_log"],
    )


def test_an_episode_of_drift_asks_for_one_retraining(deployment) -> None:
    days = [date(2025, 3, day) for day in (1, 2, 3)]
    row = {
        "signal": "error",
        "subject": "C1",
        "statistic": "error_z",
        "score": 9.0,
        "threshold": 4.0,
        "is_breach": True,
    }
    scores = pl.DataFrame(
        [{**row, "is_breach": True, "origin_date": day, "n_reference": 50, "n_current": 50} for day in days]
    )
    lake = deployment.resources["lake"].open()
    keys = set()
    cursor = None
    for day in days:
        known = scores.filter(pl.col("origin_date") <= day).select(pl.col(c).cast(t) for c, t in DRIFT_SCHEMA.items())
        lake.overwrite(DRIFT_TABLE, known)
        requested, cursor = deployment.look("drift_retrain", cursor)
        keys.update(requested)
    assert len(keys) == 1


def test_a_failure_names_the_owner_of_what_failed_and_each_owner_once() -> None:
    owners = {"forecast_demand": "team:forecasting", "silver_sales": "team:sales_data"}
    steps = ("forecast_demand", "silver_sales", "gold_unit_tests")
    alerts = {alert.owner: alert for alert in run_alerts("r", "daily_loop", steps, owners, "why", START)}
    assert {owner: alert.affected for owner, alert in alerts.items()} == {
        "forecasting": ("forecast_demand",),
        "sales_data": ("silver_sales",),
        "data_platform": ("gold_unit_tests",),
    }
    assert len({alert.id for alert in alerts.values()}) == 3


def test_every_step_of_the_graph_has_an_owner_who_is_alerted(deployment) -> None:
    owners = step_owners(
        asset
        for asset in deployment.definitions.assets
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable
    )
    assert owners["forecast_model"] == "team:forecasting"
    assert owners["decision_replenishment"] == "team:inventory_planning"
    assert owners["silver_sales"] == "team:sales_data"
    assert owners["gold_models"] == "team:data_platform"
