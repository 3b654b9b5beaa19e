"""Published: gold demand, forecasts and decisions as Iceberg tables for other engines, equal to their Delta source."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.facts import frame_columns
from assets.gate import not_applicable
from assets.settings import stage_settings
from replenish.digests import table_digest
from resources.iceberg import IcebergResource
from resources.lake import LakeResource

PARITY_CHECK = "iceberg_equals_delta"

PUBLISHED = {
    "published_demand": ("fct_demand", "gold/fct_demand", ("sku_id", "location_id", "event_date", "knowledge_date")),
    "published_forecast": ("forecast_demand", "forecasts/demand", ("origin_date", "sku_id", "location_id", "step")),
    "published_decision": ("decision_replenishment", "decisions/replenishment", ("slot_id", "revision")),
}
"""Asset to its parent, its table in lake and catalog, and the grain of that table."""


def build_published(asset: str, parent: str, table: str, grain: Sequence[str]) -> dg.AssetsDefinition:
    """An asset that copies one lake table to the Iceberg catalog and compares both as read back."""

    @dg.asset(
        name=asset,
        # Nothing leaves while what was served cannot be explained.
        deps=[parent, "served_reconciliation"],
        description=f"Iceberg copy of `{table}`, one row per {', '.join(grain)}; digest equal to the Delta table's.",
        check_specs=[
            dg.AssetCheckSpec(
                PARITY_CHECK,
                asset=asset,
                blocking=True,
                description="pyiceberg and deltalake read equal rows (table digest).",
            )
        ],
        **stage_settings("published", tier="silver", kinds={"iceberg"}),
    )
    def published(lake: LakeResource, iceberg: IcebergResource) -> Iterator[Any]:
        tables = lake.open()
        version = tables.version(table)
        if version is None:
            checks = [
                dg.AssetCheckResult(passed=True, check_name=PARITY_CHECK, metadata={"not_applicable": "no table"})
            ]
            yield not_applicable(asset, f"the lake has no table {table}", checks)
            return
        frame = tables.read(table, version=version)
        copy = iceberg.open().publish(table, frame, key=grain, source_version=version)
        delta_digest = table_digest(tables.read(table, version=version), grain)
        yield dg.MaterializeResult(
            metadata={
                "dagster/row_count": copy.n_rows,
                "dagster/column_schema": frame_columns(dict(frame.schema)),
                "delta_version": version,
                "snapshot_id": str(copy.snapshot_id),
                "digest": copy.digest,
            },
            data_version=dg.DataVersion(copy.digest),
            check_results=[
                dg.AssetCheckResult(
                    passed=copy.digest == delta_digest,
                    check_name=PARITY_CHECK,
                    metadata={"iceberg_digest": copy.digest, "delta_digest": delta_digest, "rows": copy.n_rows},
                )
            ],
        )

    return published


def published_assets() -> list[dg.AssetsDefinition]:
    """All published tables."""
    return [build_published(asset, *source) for asset, source in PUBLISHED.items()]
