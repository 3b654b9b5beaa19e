"""Drift: has the world moved away from the model? Scores that gate, and a report to read."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from assets.facts import table_result
from assets.gate import WITHOUT_INPUTS, Audit, StageResult, as_markdown, gate_specs, not_applicable, run_gated
from assets.partitions import origins_of
from assets.plots import psi_bars
from assets.settings import origin_settings
from assets.table_schemas import drift_schema
from replenish.drift.report import report_link, write_evidently_report
from replenish.drift.scores import DRIFT_TABLE, score_drift
from resources.deployment import DeploymentResource
from resources.lake import LakeResource

N_SCORES_SHOWN = 12


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
        return table_result(tables, commits, psi=psi_bars(tables.read(DRIFT_TABLE), origins_of(context)[-1]))

    yield from run_gated("drift_scores", drift_schema, work)


@dg.asset(
    deps=["drift_scores"],
    description="Evidently report of the model's inputs: the newest 28 periods beside the 56 before them.",
    **origin_settings("drift", tier="silver", kinds={"evidently", "html"}),
)
def drift_report(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> dg.MaterializeResult:
    """Write the report of the newest origin of the run, link it and say the worst of it."""
    origin, tables = origins_of(context)[-1], lake.open()
    try:
        path = write_evidently_report(tables, deployment.profile(), origin, deployment.layout.reports)
    except WITHOUT_INPUTS as missing:
        return not_applicable("drift_report", str(missing))
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.url(report_link(path)),
            "path": dg.MetadataValue.path(str(path)),
            "highest_scores": as_markdown(highest_scores(tables.read(DRIFT_TABLE), origin)),
        }
    )


def highest_scores(scores: pl.DataFrame, origin: date) -> pl.DataFrame:
    """The scores of one origin that come nearest to, or lie farthest above, their threshold."""
    nearness = pl.col("score") / pl.col("threshold")
    return (
        scores.filter(pl.col("origin_date") == origin)
        .sort(nearness, "signal", "subject", descending=[True, False, False])
        .head(N_SCORES_SHOWN)
        .select("signal", "subject", "statistic", pl.col("score").round(3), "threshold", "is_breach")
    )


def drift_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [drift_scores, drift_report]
