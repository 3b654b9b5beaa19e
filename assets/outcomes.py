"""Outcomes: what the policy would have earned on real demand, beside a plain (s, S) policy on seasonal naive."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.facts import table_result
from assets.gate import Audit, StageResult, as_markdown, gate_specs, run_gated
from assets.partitions import origins_of
from assets.settings import origin_settings
from assets.table_schemas import outcome_schema
from replenish.outcomes.service import update_service
from resources.deployment import DeploymentResource
from resources.lake import LakeResource


@dg.asset(
    deps=["fct_demand", "fct_supply", "forecast_protection_demand", "decision_replenishment"],
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
    return [outcome_service]
