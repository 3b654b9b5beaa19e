"""Decide: one order line per slot, with its terms and how far it may go without a person."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets.facts import frame_columns, table_result
from assets.gate import Audit, StageResult, as_markdown, gate_specs, run_gated
from assets.partitions import origins_of
from assets.plots import stock_trajectory
from assets.settings import origin_settings
from assets.table_schemas import decision_schema
from replenish.bitemporal import origin_instant
from replenish.control.freshness import FRESHNESS_TABLE, freshness_frame, update_freshness
from replenish.decide.replenish import decide_origin
from resources.deployment import DeploymentResource
from resources.journal import JournalResource
from resources.lake import LakeResource
from resources.outbox import OutboxResource

FRESH_CHECK = "feeds_are_fresh"


@dg.asset(
    deps=[f"silver_{stream}" for stream in ("sales", "prices", "stock_counts", "purchase_orders", "receipts")],
    description="Age of every feed at every location by data time; decisions trust no feed beyond its SLA.",
    check_specs=[
        dg.AssetCheckSpec(FRESH_CHECK, asset="monitoring_freshness", description="No feed is past its SLA; warns only.")
    ],
    **origin_settings("decide", tier="gold", kinds={"delta", "polars"}),
)
def monitoring_freshness(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Judge every feed at the cut-off of each origin of the run."""
    tables, dataset, contracts = lake.open(), deployment.dataset(), deployment.contracts()
    instants = [origin_instant(origin, dataset.zone, dataset.cutoff) for origin in origins_of(context)]
    verdicts = [update_freshness(tables, contracts, dataset, instant) for instant in instants]
    feeds = as_markdown(freshness_frame(verdicts[-1], contracts).drop("as_of_date"))
    late = ", ".join(f"{feed.stream} at {feed.location_id or 'every location'}" for feed in verdicts[-1].late)
    yield dg.AssetCheckResult(
        passed=verdicts[-1].is_healthy,
        severity=dg.AssetCheckSeverity.WARN,
        check_name=FRESH_CHECK,
        metadata={"late": late, "feeds": feeds},
    )
    version = tables.version(FRESHNESS_TABLE)
    rows = {"dagster/row_count": tables.row_count(FRESHNESS_TABLE), "delta_version": version}
    columns = {"dagster/column_schema": frame_columns(tables.schema(FRESHNESS_TABLE))}
    metadata = {**rows, **columns, "n_late": len(verdicts[-1].late), "feeds": feeds}
    yield dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(str(version)))


@dg.asset(
    deps=[
        "monitoring_freshness",
        "forecast_protection_demand",
        "fct_demand",
        "fct_stock",
        "fct_supply",
        "dim_product",
        "dim_supplier",
    ],
    description="Order-up-to level minus inventory position, in packs; each line with its reasons and its verdict.",
    check_specs=gate_specs("decision_replenishment"),
    pool="reconcile",
    **origin_settings("decide", tier="gold", kinds={"delta", "polars"}),
)
def decision_replenishment(
    context: dg.AssetExecutionContext,
    deployment: DeploymentResource,
    lake: LakeResource,
    journal: JournalResource,
    outbox: OutboxResource,
) -> Iterator[Any]:
    """Decide every origin of the run, oldest first."""

    def work(audit: Audit) -> StageResult:
        tables, log, box = lake.open(), journal.open(), outbox.open()
        dataset, policy, contracts = deployment.dataset(), deployment.policy(), deployment.contracts()
        runs = [
            decide_origin(tables, log, box, dataset, policy, contracts, origin, audit) for origin in origins_of(context)
        ]
        return table_result(
            tables,
            [run.commit for run in runs],
            **{f"n_{verdict}": n for verdict, n in sorted(runs[-1].verdicts.items())},
            n_new=sum(run.n_new for run in runs),
            n_sent=sum(run.n_sent for run in runs),
            policy=f"{policy.policy_id} {policy.version}",
            largest_orders=as_markdown(largest_orders(runs[-1].decisions)),
            stock=stock_trajectory(tables, runs[-1].decisions),
        )

    yield from run_gated("decision_replenishment", decision_schema, work)


def largest_orders(decisions: pl.DataFrame) -> pl.DataFrame:
    """The ten largest orders by value, each with its verdict and reasons."""
    columns = ["sku_id", "location_id", "order_units", "order_cost_cents", "verdict", "reasons", "explanation"]
    shown = [column for column in columns if column in decisions.columns]
    return (
        decisions.sort("order_cost_cents", "sku_id", "location_id", descending=[True, False, False], nulls_last=True)
        .head(10)
        .select(shown)
    )


def decide_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    return [monitoring_freshness, decision_replenishment]
