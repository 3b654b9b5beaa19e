"""Brings the stored rows of a feature grid up to date: new origins are added, and old rows almost never change.

A row at an origin is made of postings with `knowledge_time` at or before its cut-off, and of nothing else. So a posting
that came later changes no row before it, however old its event is. What can change an old row is a *straggler*: a
posting that came into the table after the row was taken, with an older knowledge time. Stragglers are looked for among
the postings that came or went since the last update; only from them on, and only of their keys, rows are taken again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

import polars as pl

from replenish.features.state_logs.changed_log import SINCE
from replenish.features.state_logs.full_build import StateLogLimits
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.grid_rows import grid_rows
from replenish.features.state_logs.source_changes import changed_postings, differing_files, table_identity
from replenish.features.state_logs.update import update_state_log
from replenish.stores.lake import WAIT_FOR_WRITER_SECONDS, DeltaLake, TableCommit
from replenish.stores.lake_maintenance import compact_when_due
from replenish.stores.locks import hold

GRID_ROWS_AT_ONCE = 4_000_000
"""Rows of a grid that are taken and written at once."""

_THROUGH = "grid_through"
_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class GridUpdate:
    """What an update did to a grid."""

    commit: TableCommit | None
    """None where the grid has no origin yet."""
    n_new_rows: int = 0
    n_taken_again: int = 0
    """Old rows that stragglers might have changed."""
    n_restated: int = 0
    """Old rows that they did change."""
    is_rebuilt: bool = False
    """Whether all old rows were taken again, since a source is another or its changes cannot be told."""


def update_feature_grid(
    lake: DeltaLake,
    grid: FeatureGrid,
    keys: pl.DataFrame,
    through: date,
    *,
    rows_at_once: int = GRID_ROWS_AT_ONCE,
    limits: StateLogLimits | None = None,
) -> GridUpdate:
    """Bring a grid up to the origin `through`, and the state logs behind it up to date; twice is once.

    Args:
        lake: Has the sources' tables; gets the grid's and the logs'.
        grid: Which one.
        keys: Columns of the entity: who gets rows at new origins. Rows of old origins stay those of the keys of then.
        through: Newest origin.
        rows_at_once: Bounds memory.
        limits: Of the state logs; `most_changed` also says when old rows are all taken again.

    Raises:
        TableMissing: A source's table is not there.
        AlreadyRunning: Another update of this grid is under way.
    """
    sizes = limits or StateLogLimits()
    lock = hold(lake.lock_path(f"{grid.table}_update"), f"update {grid.table}", wait_seconds=WAIT_FOR_WRITER_SECONDS)
    with lock:
        step = _GridStep(lake, grid, keys, _pinned_versions(lake, grid, sizes), rows_at_once, sizes)
        last = step.last_origin()
        restated = GridUpdate(None) if last is None else step.restate(last)
        n_new = step.add(grid.first_origin if last is None else last + _DAY, through)
        if last is None and n_new:
            step.remember_sources()
        if not lake.has(grid.table):
            return restated
        commit = lake.state(grid.table)
        compact_when_due(lake, commit)
        return GridUpdate(commit, n_new, restated.n_taken_again, restated.n_restated, restated.is_rebuilt)


def read_feature_grid(lake: DeltaLake, grid: FeatureGrid, *, version: int | None = None) -> pl.DataFrame:
    """The rows of a grid in order of origin and key; TableMissing where there are none."""
    return lake.read(grid.table, version=version).sort(ORIGIN_DATE, *grid.feature_set.entity)


def _pinned_versions(lake: DeltaLake, grid: FeatureGrid, limits: StateLogLimits) -> dict[str, int]:
    """The version of each source that is read; state logs are brought up to it or beyond."""
    versions = {name: lake.version(grid.tables[name].table) or 0 for name in grid.source_names}
    for name, logs in grid.logs().items():
        for log, table in logs:
            versions[name] = min(versions[name], update_state_log(lake, log, table, limits=limits).source_version)
    return versions


@dataclass(frozen=True)
class _GridStep:
    """One update of one grid, on pinned versions of its sources."""

    lake: DeltaLake
    grid: FeatureGrid
    keys: pl.DataFrame
    versions: Mapping[str, int]
    rows_at_once: int
    limits: StateLogLimits

    def last_origin(self) -> date | None:
        """The newest origin that is stored."""
        number = self.lake.app_version(self.grid.table, _THROUGH)
        return None if number is None else _EPOCH + timedelta(days=number)

    def add(self, first: date, through: date) -> int:
        """Append the rows of new origins; how many."""
        n_rows = 0
        for origins in self._blocks(first, through, self.keys.height):
            rows = grid_rows(self.lake, self.grid, self.keys, origins, self.versions, self._before(origins[0]))
            n_rows += rows.height
            app = (_THROUGH, (origins[-1] - _EPOCH).days)
            self.lake.append(self.grid.table, rows, partition_by=[ORIGIN_DATE], app=app)
        return n_rows

    def _before(self, origin: date) -> pl.DataFrame | None:
        """The stored rows of the origin before, which stragglers were looked for in; None where there are none."""
        if origin == self.grid.first_origin:
            return None
        rows = self.lake.read(self.grid.table, filters=[(ORIGIN_DATE, "in", [origin - _DAY])])
        return None if rows.is_empty() else rows

    def restate(self, last: date) -> GridUpdate:
        """Take old rows again where a straggler may have changed them."""
        positions = {name: self._position(name) for name in self.grid.source_names}
        if all(positions[name] == version for name, version in self.versions.items()):
            return GridUpdate(None)
        stragglers = self._stragglers(positions, last)
        taken, restated = 0, 0
        since = self.grid.first_origin if stragglers is None else self._first_seen(stragglers, last)
        if since is not None:
            keys = self._stored_keys() if stragglers is None else stragglers
            for origins in self._blocks(since, last, keys.height):
                counts = self._restate_block(keys, origins)
                taken, restated = taken + counts[0], restated + counts[1]
        self.remember_sources()
        return GridUpdate(None, 0, taken, restated, is_rebuilt=stragglers is None)

    def remember_sources(self) -> None:
        """Write the sources' versions into the table: all rows in it are made from these."""
        empty = pl.DataFrame(schema=self.lake.scan(self.grid.table).collect_schema())
        for name in self.grid.source_names:
            if self._position(name) is None:
                # Positions of another table, should it ever come back, count no longer.
                version = self.lake.version(self.grid.table) or 0
                self.lake.append(self.grid.table, empty, app=(f"grid_epoch/{name}", version + 1))
            self.lake.append(self.grid.table, empty, app=(self._source_app(name), self.versions[name]))

    def _source_app(self, name: str) -> str:
        epoch = self.lake.app_version(self.grid.table, f"grid_epoch/{name}")
        return f"grid_from/{name}/{table_identity(self.lake, self.grid.tables[name].table)}/{epoch}"

    def _position(self, name: str) -> int | None:
        return self.lake.app_version(self.grid.table, self._source_app(name))

    def _stragglers(self, positions: Mapping[str, int | None], last: date) -> pl.DataFrame | None:
        """Keys with `SINCE`, when the first posting that came or went became known; None where it cannot be told."""
        key, found = list(self.grid.feature_set.entity), []
        for name, position in positions.items():
            table, columns = self.grid.tables[name], partial(self.grid.ledger, name)
            read = self.grid.ledger(name, self.lake.scan(table.table)).collect_schema().names()
            names = [table.stored_name(column) for column in read]
            version = self.versions[name]
            files = None if position is None else differing_files(self.lake, table.table, position, version, names)
            most = self.limits.most_changed * self.lake.row_count(table.table)
            if files is None or files.n_rows > min(most, self.limits.postings_at_once):
                return None
            changed = changed_postings(self.lake, table.table, files, columns)
            found += [frame.select(*key, "knowledge_time") for frame in (changed.came, changed.gone)]
        late = pl.concat(found).filter(pl.col("knowledge_time") <= self.grid.instant(last))
        return late.group_by(key).agg(pl.col("knowledge_time").min().alias(SINCE))

    def _first_seen(self, stragglers: pl.DataFrame, last: date) -> date | None:
        """The oldest origin that may see a straggler; None where there is none."""
        if stragglers.is_empty():
            return None
        oldest: datetime = stragglers[SINCE].min()  # type: ignore[assignment]
        day = self.grid.first_origin
        while day <= last and self.grid.instant(day) < oldest:
            day += _DAY
        return day

    def _restate_block(self, keys: pl.DataFrame, origins: Sequence[date]) -> tuple[int, int]:
        """Take the rows of keys at origins again: (rows taken, rows that differ)."""
        key = [*self.grid.feature_set.entity, ORIGIN_DATE]
        stored = self.lake.read(self.grid.table, filters=[(ORIGIN_DATE, "in", list(origins))])
        rows = grid_rows(self.lake, self.grid, keys, origins, self.versions).select(stored.columns)
        rows = rows.join(stored, on=key, how="semi", nulls_equal=True)
        differing = rows.join(stored, on=rows.columns, how="anti", nulls_equal=True)
        if differing.is_empty():
            return rows.height, 0
        days = sorted(differing[ORIGIN_DATE].unique())
        kept = stored.filter(pl.col(ORIGIN_DATE).is_in(days)).join(differing, on=key, how="anti", nulls_equal=True)
        frame = pl.concat([kept, differing]).sort(ORIGIN_DATE, *self.grid.feature_set.entity)
        self.lake.replace_partitions(self.grid.table, frame, column=ORIGIN_DATE, values=days)
        return rows.height, differing.height

    def _stored_keys(self) -> pl.DataFrame:
        stored = self.lake.scan(self.grid.table).select(self.grid.feature_set.entity)
        return stored.unique().collect(engine="streaming")

    def _blocks(self, first: date, last: date, n_keys: int) -> Iterator[list[date]]:
        """Consecutive origins whose rows are taken together."""
        width = max(1, self.rows_at_once // max(1, n_keys))
        origins = [first + timedelta(days=nr) for nr in range((last - first).days + 1)]
        for start in range(0, len(origins), width):
            yield origins[start : start + width]
