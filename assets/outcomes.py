"""Outcomes: what the policy would have earned on real demand, beside a plain (s, S) policy on seasonal naive."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from assets.facts import table_result
from assets.gate import Audit, StageResult, as_markdown, gate_specs, run_gated
from assets.partitions import origins_of
from assets.settings import origin_settings
from assets.table_schemas import outcome_schema, policy_levels_schema
from replenish.forecast.policy_levels import update_policy_levels
from replenish.outcomes.service import update_service
from replenish.stores.lake import DeltaLake
from resources.deployment import DeploymentResource
from resources.lake import LakeResource


@dg.asset(
    deps=["forecast_backtest", "feat_lead_time", "decision_replenishment"],
    description="Base-stock levels the policy would have set at past origins, from what was known then.",
    check_specs=gate_specs("outcome_policy_levels"),
    pool="reconcile",
    **origin_settings("outcomes", tier="silver", kinds={"delta", "polars"}),
)
def outcome_policy_levels(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Levels at past origins, at the critical ratios of the newest decisions of the run."""

    def work(audit: Audit) -> StageResult:
        tables, origin = lake.open(), origins_of(context)[-1]
        dataset, profile = deployment.dataset(), deployment.profile()
        commit = update_policy_levels(tables, dataset, profile, origin, audit, ratios=decided_ratios(tables, origin))
        return table_result(tables, [commit])

    yield from run_gated("outcome_policy_levels", policy_levels_schema, work)


def decided_ratios(lake: DeltaLake, origin: date) -> pl.DataFrame | None:
    """The critical ratio each item was decided with: `sku_id, critical_ratio`; None where nothing was decided."""
    if not lake.has("decisions/replenishment"):
        return None
    decisions = lake.read("decisions/replenishment", filters=[("origin_date", "==", origin)])
    ratio = pl.col("target").max().alias("critical_ratio")
    return decisions.group_by("sku_id").agg(ratio).drop_nulls().sort("sku_id")


@dg.asset(
    deps=["fct_demand", "fct_supply", "fct_stock", "outcome_policy_levels"],
    description="Simulated fill rate, stock-outs, holding and shortage cost of the policy and of its baseline.",
    check_specs=gate_specs("outcome_service"),
    pool="reconcile",
    **origin_settings("outcomes", tier="silver", kinds={"delta", "polars"}),
)
def outcome_service(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Simulate up to the newest origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables = lake.open()
        update = update_service(tables, deployment.dataset(), origins_of(context)[-1], audit)
        return table_result(tables, [update.commit], summary=as_markdown(update.summary))

    yield from run_gated("outcome_service", outcome_schema, work)


def outcome_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [outcome_policy_levels, outcome_service]
