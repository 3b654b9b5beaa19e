"""Features: what was known of demand, price, stock and lead times at every origin."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.facts import counts_of, table_result
from assets.gate import Audit, StageResult, gate_specs, run_gated
from assets.partitions import origins_of, run_origin
from assets.settings import origin_settings, stage_settings
from assets.table_schemas import features_schema, lead_time_schema, lost_sales_schema
from replenish.control.passed_origins import newest_origin_to_build
from replenish.features.demand import update_feat_demand
from replenish.features.lead_time import update_lead_times
from replenish.features.unconstrained.lost_sales import update_lost_sales
from replenish.features.unconstrained.lost_windows import ESTIMATOR
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.lake import LakeResource


@dg.asset(
    deps=["fct_demand", "fct_price", "fct_stock", "dim_product", "lost_sales"],
    description="Lags, windows of sales and of demand, price, calendar, censoring per series, as known at each origin.",
    check_specs=gate_specs("feat_demand"),
    **stage_settings("features", tier="gold", kinds={"delta", "polars"}),
)
def feat_demand(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource, clock: ClockResource
) -> Iterator[Any]:
    """Bring the feature table up to the newest origin whose cut-off has passed."""

    def work(audit: Audit) -> StageResult:
        tables, dataset, profile = lake.open(), deployment.dataset(), deployment.profile()
        newest = newest_origin_to_build(tables, dataset, clock.now(), run_origin(context))
        commit = update_feat_demand(tables, dataset, profile, audit, through=newest)
        return table_result(tables, [commit], feature_set_id=profile.feature_set_id, profile=profile.name)

    yield from run_gated("feat_demand", features_schema, work)


@dg.asset(
    deps=["fct_demand", "fct_stock"],
    description="Demand estimated beyond the sales of days that sold out, as increments known at each origin.",
    check_specs=gate_specs("lost_sales"),
    **stage_settings("features", tier="gold", kinds={"delta", "polars"}),
)
def lost_sales(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource, clock: ClockResource
) -> Iterator[Any]:
    """Bring the estimates up to the newest origin whose cut-off has passed."""

    def work(audit: Audit) -> StageResult:
        tables, dataset = lake.open(), deployment.dataset()
        newest = newest_origin_to_build(tables, dataset, clock.now(), run_origin(context))
        commit = update_lost_sales(tables, dataset, audit, through=newest)
        return table_result(tables, [commit], estimator=ESTIMATOR)

    yield from run_gated("lost_sales", lost_sales_schema, work)


@dg.asset(
    deps=["fct_supply"],
    description="Received lines by lead time per supplier, article and location, as known at the origin.",
    check_specs=gate_specs("feat_lead_time"),
    **origin_settings("features", tier="gold", kinds={"delta", "polars"}),
)
def feat_lead_time(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Count lead times as known at each origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables, dataset = lake.open(), deployment.dataset()
        updates = [update_lead_times(tables, dataset, origin, audit) for origin in origins_of(context)]
        return table_result(tables, [update.commit for update in updates], **counts_of(updates[-1]))

    yield from run_gated("feat_lead_time", lead_time_schema, work)


def feature_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [feat_demand, lost_sales, feat_lead_time]
