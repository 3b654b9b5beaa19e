"""What a feature asset asks of an engine: one feature set over pinned tables, as one commit; or a grid brought on.

Two engines keep this promise: `EmbeddedEngine` in this process, and `spark_engine.ClusterEngine` on a Spark cluster.
Assets hold a `FeatureEngine` and do not know which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import NamedTuple, Protocol

import polars as pl

from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.grid_definition import FeatureGrid
from replenish.features.state_logs.grid_update import GridUpdate, update_feature_grid
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.lake_commit import AppTransaction


class PinnedTable(NamedTuple):
    """One version of a table of the lake."""

    table: str
    version: int


def pinned(lake: DeltaLake, table: str) -> PinnedTable:
    """The newest version of a table; TableMissing where there is none."""
    return PinnedTable(table, lake.state(table).version)


@dataclass(frozen=True)
class FeatureJob:
    """A feature set to evaluate, over tables whose versions are fixed, so that a repeat gives the same rows."""

    feature_set: FeatureSet
    spine: PinnedTable
    """Entity columns and `as_of`; other columns are carried along."""
    ledgers: Mapping[str, PinnedTable]
    """By name of source."""
    zone: str
    cutoff: time
    target: str
    """Table that the rows are appended to."""
    app: AppTransaction
    """Who writes, and how far: a repeat of what is inside writes nothing."""


class FeatureEngine(Protocol):
    """Evaluates feature sets."""

    def evaluate(self, job: FeatureJob, lake: DeltaLake) -> TableCommit:
        """Append the spine's rows with the features of the job's set to its target, all in one commit or none.

        Raises:
            OutOfRange: The tables are not what the set needs.
            StoreError: Nothing was committed.
        """
        ...

    def update_grid(self, lake: DeltaLake, grid: FeatureGrid, through: date, audit: Audit = accept_all) -> GridUpdate:
        """Bring a stored grid up to an origin, for its own keys: `update_feature_grid` with equal rows.

        State logs and stragglers are worked on in this process by every engine: they are few.
        """
        ...


class EmbeddedEngine:
    """Evaluates in this process with `features.offline`."""

    def evaluate(self, job: FeatureJob, lake: DeltaLake) -> TableCommit:
        """See `FeatureEngine`."""
        done = written_before(job, lake)
        if done is not None:
            return done
        wanted = {name: ledger_columns(job.feature_set, job.feature_set.source(name)) for name in job.ledgers}
        ledgers: dict[str, pl.LazyFrame] = {
            name: lake.scan(at.table, version=at.version).select(wanted[name]) for name, at in job.ledgers.items()
        }
        spine = lake.read(job.spine.table, version=job.spine.version)
        frame = evaluate(job.feature_set, spine, ledgers, job.zone, job.cutoff)
        return lake.append(job.target, frame, app=job.app)

    def update_grid(self, lake: DeltaLake, grid: FeatureGrid, through: date, audit: Audit = accept_all) -> GridUpdate:
        """See `FeatureEngine`."""
        return update_feature_grid(lake, grid, None, through, audit=audit)


def written_before(job: FeatureJob, lake: DeltaLake) -> TableCommit | None:
    """The target as it is where it holds the job's rows already."""
    known = lake.app_version(job.target, job.app[0])
    return lake.state(job.target) if known is not None and known >= job.app[1] else None
