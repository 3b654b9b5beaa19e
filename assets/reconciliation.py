"""Reconciliation of served features: a sample of what was served, computed again offline; unexplained ones block."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from assets.facts import table_result
from assets.gate import WITHOUT_INPUTS, SchemaGate, as_markdown, gate_specs, not_applicable
from assets.partitions import origins_of
from assets.settings import origin_settings
from assets.table_schemas import reconciliation_schema
from replenish.cli.silver_at import SilverAt
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.online.served_log import read_served
from replenish.features.reconciliation.reconcile import (
    Reconciliation,
    ReconciliationVerdict,
    days_before,
    reconcile_origin,
    write_reconciliation,
)
from replenish.stores.lake import DeltaLake
from resources.deployment import DeploymentResource
from resources.lake import LakeResource

ASSET = "served_reconciliation"
EQUAL_CHECK = "served_equals_offline"
RUNBOOK = "docs/runbooks/reconciliation.md"
N_CASES_SHOWN = 20


@dg.asset(
    deps=[f"silver_{stream}" for stream in ("sales", "prices", "stock_counts", "purchase_orders", "receipts")],
    description="Served feature vectors beside the offline values: match, missing, extra, difference, and the cause.",
    check_specs=[
        gate_specs(ASSET)[0],
        dg.AssetCheckSpec(
            EQUAL_CHECK,
            asset=ASSET,
            blocking=True,
            description="Nothing served is unexplained, stale, made of other rows, or by definitions nobody recorded.",
        ),
    ],
    **origin_settings("features", tier="gold", kinds={"delta", "polars"}),
)
def served_reconciliation(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, lake: LakeResource
) -> Iterator[Any]:
    """Reconcile the vectors of the day before the newest origin of the run; what was found is kept either way."""
    tables, origin, gate = lake.open(), origins_of(context)[-1], SchemaGate(ASSET, reconciliation_schema)
    try:
        found = reconciled(tables, deployment, origin)
    except WITHOUT_INPUTS as missing:
        checks = [gate.not_applicable(str(missing)), equality(None, {"not_applicable": str(missing)})]
        yield not_applicable(ASSET, str(missing), checks)
        return
    commit = write_reconciliation(tables, found, origin, gate.audit)
    said = {"causes": as_markdown(causes_of(found.counts)), "differing": as_markdown(found.cases.head(N_CASES_SHOWN))}
    result = table_result(tables, [commit], n_values=found.verdict.n_values, **said)
    yield dg.MaterializeResult(
        asset_key=ASSET,
        metadata={"dagster/row_count": result.n_rows, "delta_version": result.version, **result.metadata},
        data_version=dg.DataVersion(str(result.version)),
        check_results=[gate.result(), equality(found.verdict, said)],
    )


def reconciled(lake: DeltaLake, deployment: DeploymentResource, origin: date) -> Reconciliation:
    """The reconciliation of one origin against the present definitions."""
    dataset, feature_sets = deployment.dataset(), read_feature_sets()
    folders = sorted(deployment.layout.twin.glob("*/served"))
    days = days_before(origin, dataset.zone, dataset.cutoff)
    answers = (answer for folder in folders for answer in read_served(folder, days))
    history = SilverAt(lake, deployment.contracts(), dataset)
    return reconcile_origin(answers, feature_sets, history, origin, zone=dataset.zone, cutoff=dataset.cutoff)


def equality(verdict: ReconciliationVerdict | None, said: dict[str, Any]) -> dg.AssetCheckResult:
    """The blocking check: passed where nothing was served, or what was served may be relied on."""
    counts = {} if verdict is None else {**verdict.by_cause, "unknown_definitions": verdict.unknown_definitions}
    return dg.AssetCheckResult(
        passed=verdict is None or verdict.is_releasable,
        check_name=EQUAL_CHECK,
        asset_key=ASSET,
        metadata={**said, **counts, "runbook": RUNBOOK},
    )


def causes_of(counts: pl.DataFrame) -> pl.DataFrame:
    """Values by set, outcome and cause, most first."""
    keys = ["feature_set", "outcome", "cause", "detail", "is_known_definition"]
    total = counts.group_by(keys).agg(pl.col("n_values").sum())
    return total.sort("n_values", *keys, descending=[True, *[False] * len(keys)])


def reconciliation_assets() -> list[dg.AssetsDefinition]:
    """The assets of this file."""
    return [served_reconciliation]
