"""The grid that a deployment keeps of a daily set: where it begins; and what updates of stored sets report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.digests import json_digest
from replenish.errors import NotApplicable
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.state_logs.grid_definition import FeatureGrid, grid_on_silver
from replenish.features.state_logs.update import StateLogUpdate
from replenish.stores.lake import DeltaLake

GRID_STARTS_TABLE = "features/grid_starts"
"""One row per set's id, zone and cut-off: the first origin of its grid, chosen once."""


def stored_grid(
    lake: DeltaLake, feature_set: FeatureSet, dataset: Dataset, profile: ForecastProfile, newest: date | None
) -> tuple[FeatureGrid, date]:
    """The grid of a daily set that this lake keeps, and `newest`; its first origin is chosen once.

    It is the oldest origin that the deployment's profile tests a forecast at. So the first build takes a number of
    origins that the profile bounds and the length of the history does not, and there is a row for every forecast that
    is judged. The name of a grid's table holds its first origin: were that derived anew by every run, a new day or an
    old file would begin another table.

    Args:
        lake: Keeps the choice.
        feature_set: Of the clock `daily`.
        dataset: Zone and cut-off.
        profile: Says which origins are tested.
        newest: The origin that the grid will be brought up to; None = nothing is known.

    Raises:
        NotApplicable: Nothing is known.
    """
    if newest is None:
        raise NotApplicable("not_applicable: no demand is known", dataset=dataset.dataset_id)
    said = {
        "feature_set": feature_set.name,
        "feature_set_id": feature_set_digest(feature_set),
        "zone": dataset.zone,
        "cutoff": dataset.cutoff.isoformat(),
    }
    start = pl.DataFrame({**said, "first_origin": profile.backtest_origins(newest)[0]})
    # Where the choice is inside already, nothing is added.
    lake.append(GRID_STARTS_TABLE, start, app=(f"grid_start/{json_digest(said)[:16]}", 1))
    kept = lake.scan(GRID_STARTS_TABLE).filter(pl.col(name) == value for name, value in said.items())
    first = kept.select("first_origin").collect().item()
    return grid_on_silver(feature_set, dataset.zone, dataset.cutoff, first), newest


def state_log_counts(logs: Sequence[StateLogUpdate]) -> pl.DataFrame:
    """What an update did to the state logs of a set, one row a log: `table` and counts."""
    rows = [
        {
            "table": log.commit.table,
            "version": log.commit.version,
            "rows": log.commit.n_rows,
            "is_full_build": log.is_full_build,
            "changed_postings": log.n_changed_postings,
            "rows_added": log.n_rows_added,
            "rows_removed": log.n_rows_removed,
        }
        for log in logs
    ]
    counts = ("version", "rows", "changed_postings", "rows_added", "rows_removed")
    empty = {"table": pl.String(), "is_full_build": pl.Boolean(), **dict.fromkeys(counts, pl.Int64())}
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=empty)
