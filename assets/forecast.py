"""Forecast: backtest, model, demand forecasts and demand over the protection interval."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.facts import table_result
from assets.gate import WITHOUT_INPUTS, Audit, StageResult, as_markdown, gate_specs, not_applicable, run_gated
from assets.partitions import origins_of
from assets.plots import backtest_plot, forecast_fan
from assets.settings import origin_settings
from assets.table_schemas import backtest_schema, forecast_schema, protection_schema
from replenish.forecast.backtest import run_backtest
from replenish.forecast.challenger import train_challenger
from replenish.forecast.predict import forecast_origin
from replenish.forecast.protection import protection_demand
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.lake import LakeResource
from resources.registry import RegistryResource


@dg.asset(
    deps=["feat_demand", "lost_sales"],
    description="Rolling-origin backtest of the model against seasonal naive and moving average, quantiles included.",
    check_specs=gate_specs("forecast_backtest"),
    pool="training",
    **origin_settings("forecast", tier="silver", kinds={"delta", "lightgbm"}),
)
def forecast_backtest(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Backtest as of the newest origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables = lake.open()
        report = run_backtest(tables, deployment.dataset(), deployment.profile(), origins_of(context)[-1], audit)
        return table_result(
            tables,
            [report.commit],
            metrics=as_markdown(report.summary),
            by_horizon=backtest_plot(tables.read("forecasts/backtest")),
        )

    yield from run_gated("forecast_backtest", backtest_schema, work)


@dg.asset(
    deps=["feat_demand", "lost_sales", "forecast_backtest"],
    description="A challenger model; it becomes champion where the backtest says that it is no worse.",
    pool="training",
    **origin_settings("forecast", tier="silver", kinds={"lightgbm"}),
)
def forecast_model(
    context: dg.AssetExecutionContext,
    deployment: DeploymentResource,
    lake: LakeResource,
    registry: RegistryResource,
    clock: ClockResource,
) -> dg.MaterializeResult:
    """Train at the newest origin of the run."""
    try:
        card = train_challenger(
            lake.open(), registry.open(), deployment.dataset(), deployment.profile(), origins_of(context)[-1]
        )
    except WITHOUT_INPUTS as missing:
        return not_applicable("forecast_model", str(missing))
    return dg.MaterializeResult(metadata={"card": dg.MetadataValue.json(card.as_json())})


@dg.asset(
    deps=["feat_demand", "forecast_model"],
    description="Mean and quantiles of demand per series and step; each row names its model, feature set and mode.",
    check_specs=gate_specs("forecast_demand"),
    pool="inference",
    **origin_settings("forecast", tier="gold", kinds={"delta", "lightgbm"}),
)
def forecast_demand(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource, registry: RegistryResource
) -> Iterator[Any]:
    """Forecast every origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables, dataset, profile = lake.open(), deployment.dataset(), deployment.profile()
        origins = origins_of(context)
        models = registry.open()
        commits = [forecast_origin(tables, models, dataset, profile, origin, audit) for origin in origins]
        return table_result(tables, commits, fan=forecast_fan(tables, origins[-1]))

    yield from run_gated("forecast_demand", forecast_schema, work)


@dg.asset(
    deps=["forecast_demand", "forecast_backtest", "feat_lead_time"],
    description="Quantiles of summed demand over the random protection interval (lead time plus review period).",
    check_specs=gate_specs("forecast_protection_demand"),
    pool="inference",
    **origin_settings("forecast", tier="gold", kinds={"delta", "polars"}),
)
def forecast_protection_demand(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Protection-interval demand of every origin of the run."""

    def work(audit: Audit) -> StageResult:
        tables, dataset, profile = lake.open(), deployment.dataset(), deployment.profile()
        commits = [protection_demand(tables, dataset, profile, origin, audit) for origin in origins_of(context)]
        return table_result(tables, commits)

    yield from run_gated("forecast_protection_demand", protection_schema, work)


def forecast_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [forecast_backtest, forecast_model, forecast_demand, forecast_protection_demand]
