"""Origins: the days a forecast is made and decisions are taken on; the only way anything is partitioned."""

from datetime import date

import dagster as dg

ORIGINS = dg.DailyPartitionsDefinition(start_date="2009-01-01", end_offset=1)
"""From before any data set in use; `end_offset` lets a run name today, whose cut-off may have passed."""

ONE_RUN = dg.BackfillPolicy.single_run()
"""A range of origins is one run: each origin is cheap beside the start of a run."""


def origins_of(context: dg.AssetExecutionContext) -> tuple[date, ...]:
    """The origins this run works on, oldest first, so that later ones see the decisions of earlier ones."""
    return tuple(sorted(date.fromisoformat(key) for key in context.partition_keys))


def run_origin(context: dg.AssetExecutionContext) -> date | None:
    """The newest origin of the run an unpartitioned asset takes part in; None where the run has none."""
    tags = context.run.tags
    key = tags.get("dagster/partition") or tags.get("dagster/asset_partition_range_end")
    return None if key is None else date.fromisoformat(key)
