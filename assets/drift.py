"""Drift: has the world moved away from the model? Scores that gate, and a report to read."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.facts import table_result
from assets.gate import WITHOUT_INPUTS, Audit, StageResult, gate_specs, not_applicable, run_gated
from assets.partitions import origins_of
from assets.plots import psi_bars
from assets.settings import origin_settings
from assets.table_schemas import drift_schema
from replenish.drift.report import write_evidently_report
from replenish.drift.scores import score_drift
from resources.deployment import DeploymentResource
from resources.lake import LakeResource


@dg.asset(
    deps=["feat_demand", "forecast_demand"],
    description="Population stability of inputs and predictions, and the forecast error once actual demand is known.",
    check_specs=gate_specs("drift_scores"),
    **origin_settings("drift", tier="gold", kinds={"delta", "polars"}),
)
def drift_scores(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Score every origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables, profile = lake.open(), deployment.profile()
        commits = [score_drift(tables, profile, origin, audit=audit) for origin in origins_of(context)]
        return table_result(tables, commits, psi=psi_bars(tables.read("monitoring/drift"), origins_of(context)[-1]))

    yield from run_gated("drift_scores", drift_schema, work)


@dg.asset(
    deps=["drift_scores"],
    description="Evidently report of inputs and predictions, this origin against the training period.",
    **origin_settings("drift", tier="silver", kinds={"evidently", "html"}),
)
def drift_report(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> dg.MaterializeResult:
    """Write the report of the newest origin of the run and link it."""
    origin = origins_of(context)[-1]
    try:
        path = write_evidently_report(lake.open(), deployment.profile(), origin, deployment.layout.reports)
    except WITHOUT_INPUTS as missing:
        return not_applicable("drift_report", str(missing))
    return dg.MaterializeResult(
        metadata={"report": dg.MetadataValue.url(path.as_uri()), "path": dg.MetadataValue.path(str(path))}
    )


def drift_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [drift_scores, drift_report]
