"""The whole graph, in process, on a small retailer: one command runs it, and running it again changes nothing."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from replenish.cli.demo import lay_out_retailer
from replenish.digests import table_digest
from replenish.drift.report import REPORTS_PORT
from replenish.outcomes.retailer_plan import RetailerPlan
from resources.environment import resources_for

pytestmark = pytest.mark.slow

N_DAYS = 200
ORIGIN = date(2024, 7, 19)
"""The day after the last of the world's days, as on the built-in retailer."""
TABLES = (
    "gold/fct_demand",
    "features/feat_demand",
    "features/lost_sales",
    "forecasts/demand",
    "forecasts/protection_demand",
    "decisions/replenishment",
)


class Loop:
    """One root on which the graph was run twice."""

    def __init__(self, root: Path) -> None:
        lay_out_retailer(root, RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=N_DAYS))
        self.root = root
        self.resources = resources_for("test", root)
        self.definitions = build_definitions(resources=self.resources)
        self.instance = dg.DagsterInstance.ephemeral()
        self.first = self.run()
        self.first_digests = self.digests()
        self.second = self.run()

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, partition_key=ORIGIN.isoformat(), raise_on_error=False)

    def digests(self) -> dict[str, str]:
        lake = self.resources["lake"].open()
        return {table: table_digest(lake.read(table), []) for table in TABLES}

    def metadata(self, key: str) -> dict[str, dg.MetadataValue]:
        (event,) = (e for e in self.first.get_asset_materialization_events() if e.asset_key == dg.AssetKey(key))
        return dict(event.materialization.metadata)


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> Loop:
    return Loop(tmp_path_factory.mktemp("loop") / "root")


def test_one_run_takes_files_to_decisions(loop) -> None:
    failed = [event.step_key for event in loop.first.all_events if event.is_step_failure]
    assert failed == []
    assert loop.metadata("decision_replenishment")["dagster/row_count"].value > 0


def test_no_blocking_check_fails(loop) -> None:
    errors = [
        (check.asset_key.to_user_string(), check.check_name)
        for check in loop.first.get_asset_check_evaluations()
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]
    assert errors == []


def test_every_table_reports_rows_version_and_columns(loop) -> None:
    wanted = {"dagster/row_count", "delta_version", "dagster/column_schema"}
    stored = ("features_demand_daily", "features_stock_now")
    told = ("bronze_sales", "silver_sales", "fct_demand", "feat_demand", "forecast_demand", "published_demand")
    for key in (*told, *stored):
        assert wanted <= set(loop.metadata(key)), key


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("forecast_demand", "fan"),
        ("forecast_backtest", "by_horizon"),
        ("decision_replenishment", "stock"),
        ("late_data_report", "plot"),
    ],
)
def test_plots_are_in_the_metadata(loop, key, name) -> None:
    assert "data:image/png;base64," in loop.metadata(key)[name].value


def test_the_drift_report_is_linked_and_its_highest_scores_are_shown(loop) -> None:
    metadata = loop.metadata("drift_report")
    report = Path(metadata["path"].value)
    assert report.is_file()
    assert metadata["report"].value.endswith(f":{REPORTS_PORT}/{report.name}")
    assert "| error | C1 | error_z |" in metadata["highest_scores"].value


def test_dbt_keeps_one_folder_a_command_however_often_it_runs(loop) -> None:
    assert sorted(path.name for path in (loop.root / "dbt").iterdir()) == ["build", "test"]


def test_dead_letters_show_their_reason(loop) -> None:
    assert "below_minimum" in loop.metadata("event_log")["dead_letters_by_reason"].value


def test_a_feed_that_stopped_is_named_although_every_asset_ran(loop) -> None:
    (check,) = (c for c in loop.first.get_asset_check_evaluations() if c.check_name == "feeds_are_fresh")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "stock_counts at" in check.metadata["late"].value


def test_the_two_homes_of_the_daily_features_agree_at_the_origin(loop) -> None:
    (check,) = (c for c in loop.first.get_asset_check_evaluations() if c.check_name == "equals_feat_demand")
    assert check.passed
    assert check.metadata["origin"].value == ORIGIN.isoformat()
    assert (check.metadata["n_late"].value, check.metadata["n_of_logic"].value) == (0, 0)


def test_running_an_origin_again_changes_nothing_and_sends_nothing(loop) -> None:
    assert loop.second.success
    assert loop.digests() == loop.first_digests
    again = [
        e for e in loop.second.get_asset_materialization_events() if e.asset_key.path == ["decision_replenishment"]
    ]
    assert again[0].materialization.metadata["n_sent"].value == 0
