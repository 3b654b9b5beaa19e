"""The code location: what it loads, and what every asset says of itself."""

import subprocess
import sys
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from assets.definitions import build_definitions
from assets.event_log import feed_key
from assets.gate import StageResult, gate_specs, run_gated
from assets.settings import AUTOMATION
from assets.table_schemas import decision_schema, forecast_schema, quantiles_rise
from replenish.contracts.reader import read_contracts
from replenish.errors import NotApplicable
from replenish.features.definitions.reader import read_feature_sets
from resources.environment import resources_for

SLOW_IMPORTS = ("evidently", "lightgbm", "mlflow", "matplotlib", "pandera")


@pytest.fixture(scope="module")
def graph():
    return build_definitions().resolve_asset_graph()


def test_definitions_load_without_the_libraries_that_take_seconds() -> None:
    code = f"import sys, assets.definitions; print([m for m in {SLOW_IMPORTS!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"


def test_every_asset_says_who_owns_it_what_it_is_and_where_it_belongs(graph) -> None:
    silent = {
        node.key.to_user_string()
        for node in graph.asset_nodes
        if node.group_name == "default" or not (node.owners and node.description and node.kinds and node.tags["tier"])
    }
    assert silent == set()


def test_every_asset_that_runs_has_a_freshness_policy(graph) -> None:
    without = [node.key for node in graph.asset_nodes if node.is_materializable and node.freshness_policy is None]
    assert without == []


def test_a_feed_is_as_fresh_as_its_contract_demands(graph) -> None:
    contract = read_contracts()["sales"]
    policy = graph.get(dg.AssetKey(feed_key("sales"))).freshness_policy
    assert policy.fail_window.to_timedelta() == timedelta(hours=contract.sla.fail_after_hours)
    assert policy.warn_window.to_timedelta() == timedelta(hours=contract.sla.warn_after_hours)


def test_origins_partition_forecasts_and_decisions_but_nothing_before_them(graph) -> None:
    partitioned = {node.key.to_user_string() for node in graph.asset_nodes if node.is_partitioned}
    assert {"forecast_demand", "drift_scores", "decision_replenishment"} <= partitioned
    unpartitioned = {"event_log", "bronze_sales", "silver_sales", "fct_demand", "feat_demand", "features_demand_daily"}
    assert not partitioned & unpartitioned


def test_the_job_that_takes_in_files_needs_no_origin() -> None:
    job = build_definitions().resolve_job_def("intake")
    assert job.partitions_def is None
    taken = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {"event_log", "fct_demand", "feat_demand", "features_demand_daily", "features_stock_now"} <= taken


def test_every_derived_table_has_a_blocking_schema_check(graph) -> None:
    tables = {"silver_sales", "feat_demand", "forecast_demand", "drift_scores", "decision_replenishment"}
    tables |= {f"features_{name}" for name in read_feature_sets()}
    blocking = {
        key.asset_key.to_user_string()
        for key in graph.asset_check_keys
        if key.name == "schema_holds" and graph.get_check_spec(key).blocking
    }
    assert tables <= blocking


def test_dbt_data_tests_and_unit_tests_are_asset_checks(graph) -> None:
    names = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    assert any(asset == "fct_demand" and name.startswith("unit__") for asset, name in names)
    assert any(asset == "fct_demand" and name.startswith("not_null") for asset, name in names)
    assert any(asset == "silver_sales" and name.startswith("source_") for asset, name in names)


def test_a_development_process_refuses_the_root_of_production(tmp_path) -> None:
    resources_for("prod", tmp_path)
    with pytest.raises(dg.DagsterInvariantViolationError, match="belongs to 'prod'"):
        resources_for("dev", tmp_path)


def test_an_unknown_environment_is_refused(tmp_path) -> None:
    with pytest.raises(dg.DagsterInvariantViolationError, match="REPLENISH_ENV"):
        resources_for("staging", tmp_path)


def judged(frame: pl.DataFrame, committed: list[int]) -> dg.ExecuteInProcessResult:
    """Two assets; the parent commits `frame` behind the gate of decisions."""

    @dg.asset(check_specs=gate_specs("parent"))
    def parent():
        def work(audit):
            audit(frame)
            committed.append(frame.height)
            return StageResult(n_rows=frame.height, version=0)

        yield from run_gated("parent", decision_schema, work)

    @dg.asset(deps=[parent])
    def child() -> None:
        committed.append(-1)

    return dg.materialize([parent, child], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)


def decisions(order_units: int) -> pl.DataFrame:
    row = {"sku_id": "A", "location_id": "S", "decision_id": "d", "slot_id": "s", "revision": 1, "verdict": "auto"}
    dated = pl.DataFrame([{**row, "order_units": order_units}])
    return dated.with_columns(pl.lit("2024-01-02").str.to_date().alias("origin_date"))


def test_a_table_that_breaks_its_schema_is_not_committed_and_children_do_not_run() -> None:
    committed: list[int] = []
    result = judged(decisions(order_units=-5), committed)
    assert (result.success, committed) == (False, [])
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("schema_holds", False)
    assert "order_units" in check.metadata["failure_cases"].value


def test_a_sound_table_is_committed_and_reports_both_checks() -> None:
    committed: list[int] = []
    result = judged(decisions(order_units=5), committed)
    assert (result.success, committed) == (True, [1, -1])
    assert {(c.check_name, c.passed) for c in result.get_asset_check_evaluations()} == {
        ("schema_holds", True),
        ("has_rows", True),
    }


def test_a_stage_without_its_inputs_says_so_and_does_not_fail() -> None:
    @dg.asset(check_specs=gate_specs("lonely"))
    def lonely():
        def work(audit):
            raise NotApplicable("no stock_counts feed")

        yield from run_gated("lonely", forecast_schema, work)

    result = dg.materialize([lonely], instance=dg.DagsterInstance.ephemeral())
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["not_applicable"].value == "not_applicable: no stock_counts feed"
    assert all(check.passed for check in result.get_asset_check_evaluations())


@pytest.mark.parametrize(("q90", "rises"), [(3, True), (1, False)])
def test_crossing_quantiles_are_seen(q90, rises) -> None:
    assert quantiles_rise(pl.DataFrame({"q90_milli": [q90], "q10_milli": [1], "q50_milli": [2]})) is rises


def automated(passes: bool) -> list[str]:
    """Assets that automation requests after `parent` was materialized with a passing or failing blocking check."""
    spec = dg.AssetCheckSpec("holds", asset="parent", blocking=True)

    @dg.asset(check_specs=[spec])
    def parent():
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=passes)])

    @dg.asset(deps=[parent], automation_condition=AUTOMATION)
    def child() -> None: ...

    instance = dg.DagsterInstance.ephemeral()
    first = dg.evaluate_automation_conditions([parent, child], instance=instance)
    dg.materialize([parent], instance=instance, raise_on_error=False)
    second = dg.evaluate_automation_conditions([parent, child], instance=instance, cursor=first.cursor)
    return [key.to_user_string() for key in (dg.AssetKey("child"),) if second.get_num_requested(key) > 0]


def test_automation_follows_a_parent_whose_checks_passed() -> None:
    assert automated(passes=True) == ["child"]


def test_automation_does_not_follow_a_parent_whose_blocking_check_failed() -> None:
    assert automated(passes=False) == []
