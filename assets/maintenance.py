"""Maintenance of the lake: small files merged, replaced files and old log entries let go; the rows stay the same."""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets.gate import as_markdown
from assets.settings import stage_settings
from replenish.stores.lake_maintenance import TableMaintenance, maintain_lake
from resources.clock import ClockResource
from resources.lake import LakeResource

MAINTENANCE_GROUP = "maintenance"
CHECK = "every_table_was_maintained"


def build_maintenance() -> dg.AssetsDefinition:
    """The asset `maintain_lake`; its own schedule runs it, nothing triggers it."""

    @dg.asset(
        name="maintain_lake",
        description="Compacts Delta tables about every 100 commits, vacuums what was replaced a week ago, "
        "lets log entries go after thirty days. Works under each table's lock; may be run at any time.",
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset="maintain_lake", description="No step of a table's maintenance was left for later."
            )
        ],
        **{
            **stage_settings(MAINTENANCE_GROUP, tier="silver", kinds={"delta"}),
            # By its schedule alone: it follows from no event.
            "automation_condition": None,
        },
    )
    def maintain(lake: LakeResource, clock: ClockResource) -> Iterator[Any]:
        tables = maintain_lake(lake.open(), now=clock.now())
        faults = {table.table: table.fault for table in tables if table.fault is not None}
        yield dg.MaterializeResult(
            metadata={
                "tables": as_markdown(maintenance_table(tables)),
                "files_before": sum(table.files_before for table in tables),
                "files_after": sum(table.files_after for table in tables),
                "files_removed": sum(table.removed_files for table in tables),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=not faults,
                    check_name=CHECK,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"tables": len(tables), "faults": dg.MetadataValue.json(faults)},
                )
            ],
        )

    return maintain


def maintenance_table(tables: Iterable[TableMaintenance]) -> pl.DataFrame:
    """One row per table: versions and files before and after, what was removed, what failed."""
    return pl.DataFrame([vars(table) for table in tables], infer_schema_length=None)
