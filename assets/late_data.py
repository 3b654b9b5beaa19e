"""The late-data report: rows that came late, and the features, forecasts and orders they would have changed."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from assets.facts import table_result
from assets.gate import Audit, StageResult, as_markdown, gate_specs, run_gated
from assets.partitions import origins_of
from assets.plots import late_data_bars
from assets.settings import origin_settings
from assets.table_schemas import late_effects_schema
from replenish.decide.candidates import Candidate, line_candidates
from replenish.decide.order_inputs import has_interval_demand
from replenish.errors import NotApplicable
from replenish.features.late_data.arrivals import lateness_summary
from replenish.features.late_data.effects import ORDER_LINE_SCHEMA
from replenish.features.late_data.report import Replay, effects_summary, late_report, write_late_report
from replenish.features.lead_time import update_lead_times
from replenish.forecast.predict import forecast_origin
from replenish.forecast.protection import protection_demand
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.registry import ModelRegistry
from resources.deployment import DeploymentResource
from resources.journal import JournalResource
from resources.lake import LakeResource
from resources.registry import RegistryResource


@dg.asset(
    deps=["feat_demand", "forecast_protection_demand", "decision_replenishment"],
    description="Rows that came late, by how much, and what they would have changed: features, forecasts, orders.",
    check_specs=gate_specs("late_data_report"),
    pool="reconcile",
    **origin_settings("features", tier="silver", kinds={"delta", "polars"}),
)
def late_data_report(
    context: dg.AssetExecutionContext,
    deployment: DeploymentResource,
    lake: LakeResource,
    journal: JournalResource,
    registry: RegistryResource,
) -> Iterator[Any]:
    """Report as of the newest origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables, origin = lake.open(), origins_of(context)[-1]
        replay = replay_of(deployment, journal.open(), registry.open())
        facts = deployment.dataset(), deployment.contracts(), deployment.profile()
        report = late_report(tables, *facts, origin, replay)
        commit = write_late_report(tables, report, origin, audit)
        shown = {"late_rows": lateness_summary(report.rows), "effects": effects_summary(report.effects)}
        tables_shown = {name: as_markdown(frame) for name, frame in shown.items()}
        orders = as_markdown(report.orders.drop("report_date").head(20))
        plot = late_data_bars(report.rows, report.effects)
        return table_result(tables, [commit], plot=plot, late_orders=orders, **tables_shown)

    yield from run_gated("late_data_report", late_effects_schema, work)


def replay_of(deployment: DeploymentResource, journal: Journal, models: ModelRegistry) -> Replay:
    """Forecast and decide an origin on any lake, without a trace in journal or outbox.

    Where the data set has no lead times, an assumption or nothing stands in, as in the loop itself.
    """
    dataset, profile, policy = deployment.dataset(), deployment.profile(), deployment.policy()

    def replay(lake: DeltaLake, origin: date) -> pl.DataFrame:
        with suppress(NotApplicable):
            update_lead_times(lake, dataset, origin)
        forecast_origin(lake, models, dataset, profile, origin)
        with suppress(NotApplicable):
            protection_demand(lake, dataset, profile, origin)
        if not has_interval_demand(lake, origin):
            return order_lines([])
        return order_lines(line_candidates(lake, journal, dataset, policy, deployment.contracts(), origin))

    return replay


def order_lines(candidates: list[Candidate]) -> pl.DataFrame:
    """Judged lines as rows of `ORDER_LINE_SCHEMA`; with `no_action` nothing is ordered, whatever was needed."""
    rows = [(c.item["sku_id"], c.item["location_id"], *ordered(c), c.verdict.verdict) for c in candidates]
    return pl.DataFrame(rows, schema=ORDER_LINE_SCHEMA, orient="row")


def ordered(candidate: Candidate) -> tuple[int, int | None]:
    """Units and cents of one line."""
    line = candidate.line
    if line is None or line.quantity is None or candidate.verdict.verdict == "no_action":
        return 0, 0
    return line.quantity.order_units, line.order_cost_cents


def late_data_assets() -> list[dg.AssetsDefinition]:
    """The assets of this file."""
    return [late_data_report]
