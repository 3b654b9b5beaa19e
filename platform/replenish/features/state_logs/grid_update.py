"""Brings the stored rows of a feature grid up to date: new origins are added, and old rows almost never change.

A row at an origin is made of postings with `knowledge_time` at or before its cut-off, and of nothing else. So a posting
that came later changes no row before it, however old its event is. What can change an old row is a *straggler*: a
posting that came into the table after the row was taken, with an older knowledge time. Stragglers are looked for among
the postings that came or went since the last update; only from them on, and only of their keys, rows are taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial

import polars as pl

from replenish.features.state_logs.changed_log import SINCE
from replenish.features.state_logs.full_build import StateLogLimits
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.grid_keys import grid_keys
from replenish.features.state_logs.grid_rows import grid_rows
from replenish.features.state_logs.source_changes import changed_postings, differing_files, table_identity
from replenish.features.state_logs.update import StateLogUpdate, update_state_log
from replenish.stores.lake import WAIT_FOR_WRITER_SECONDS, Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.lake_commit import AppTransaction
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
    """Old rows that they did change, bring or take away."""
    is_rebuilt: bool = False
    """Whether all old rows were taken again, since a source is another or its changes cannot be told."""
    logs: tuple[StateLogUpdate, ...] = ()
    """What was done to the state logs behind the grid."""


@dataclass(frozen=True)
class NewOrigins:
    """Rows that a writer shall add to a grid: of keys at consecutive origins, as one commit or none."""

    grid: FeatureGrid
    keys: pl.DataFrame
    origins: Sequence[date]
    versions: Mapping[str, int]
    """Version of each source's table that is read."""
    app: AppTransaction
    """Who writes, and how far: a repeat of what is inside writes nothing."""
    audit: Audit
    """Called on the rows before their commit."""


OriginWriter = Callable[[DeltaLake, NewOrigins], int]
"""Adds rows of new origins; how many."""


def write_origins(lake: DeltaLake, new: NewOrigins) -> int:
    """Evaluate new origins in this process and append their rows."""
    first = new.origins[0]
    # Stragglers were looked for in the rows of the origin before, so what they settle is settled.
    stored = [] if first == new.grid.first_origin else [_rows_at(lake, new.grid, [first - _DAY])]
    before = next((rows for rows in stored if rows.height), None)
    rows = grid_rows(lake, new.grid, new.keys, new.origins, new.versions, before)
    new.audit(rows)
    lake.append(new.grid.table, rows, partition_by=[ORIGIN_DATE], app=new.app)
    return rows.height


def update_feature_grid(
    lake: DeltaLake,
    grid: FeatureGrid,
    keys: pl.DataFrame | None,
    through: date,
    *,
    write: OriginWriter = write_origins,
    audit: Audit = accept_all,
    rows_at_once: int = GRID_ROWS_AT_ONCE,
    limits: StateLogLimits | None = None,
) -> GridUpdate:
    """Bring a grid up to the origin `through`, and the state logs behind it up to date; twice is once.

    Args:
        lake: Has the sources' tables; gets the grid's and the logs'.
        grid: Which one.
        keys: Columns of the entity: who gets rows at new origins. Rows of old origins stay those of the keys of then.
            None = the grid's own (`grid_keys`), which stragglers bring into old origins, too.
        through: Newest origin.
        write: Evaluates and writes new origins; stragglers, which are few, are always taken in this process.
        audit: Called on rows before their commit.
        rows_at_once: Bounds memory.
        limits: Of the state logs; `most_changed` also says when old rows are all taken again.

    Raises:
        TableMissing: A source's table is not there.
        AlreadyRunning: Another update of this grid is under way.
        AuditFailed: From `audit`; blocks committed before stay.
    """
    sizes = limits or StateLogLimits()
    lock = hold(lake.lock_path(f"{grid.table}_update"), f"update {grid.table}", wait_seconds=WAIT_FOR_WRITER_SECONDS)
    with lock:
        versions, logs = _pinned_versions(lake, grid, sizes)
        chosen = grid_keys(lake, grid, versions) if keys is None else keys
        step = _GridStep(lake, grid, chosen, keys is None, versions, rows_at_once, sizes, write, audit)
        last = step.last_origin()
        restated = GridUpdate(None) if last is None else step.restate(last)
        n_new = step.add(grid.first_origin if last is None else last + _DAY, through)
        if last is None and n_new:
            step.remember_sources()
        if not lake.has(grid.table):
            return replace(restated, logs=logs)
        commit = lake.state(grid.table)
        compact_when_due(lake, commit)
        return replace(restated, commit=commit, n_new_rows=n_new, logs=logs)


def read_feature_grid(lake: DeltaLake, grid: FeatureGrid, *, version: int | None = None) -> pl.DataFrame:
    """The rows of a grid in order of origin and key; TableMissing where there are none."""
    return lake.read(grid.table, version=version).sort(ORIGIN_DATE, *grid.feature_set.entity)


def _rows_at(lake: DeltaLake, grid: FeatureGrid, origins: Sequence[date]) -> pl.DataFrame:
    return lake.read(grid.table, filters=[(ORIGIN_DATE, "in", list(origins))])


def _pinned_versions(
    lake: DeltaLake, grid: FeatureGrid, limits: StateLogLimits
) -> tuple[dict[str, int], tuple[StateLogUpdate, ...]]:
    """The version of each source that is read; state logs are brought up to it or beyond."""
    versions = {name: lake.version(grid.tables[name].table) or 0 for name in grid.source_names}
    done = []
    for name, logs in grid.logs().items():
        for log, table in logs:
            done.append(update_state_log(lake, log, table, limits=limits))
            versions[name] = min(versions[name], done[-1].source_version)
    return versions, tuple(done)


@dataclass(frozen=True)
class _GridStep:
    """One update of one grid, on pinned versions of its sources."""

    lake: DeltaLake
    grid: FeatureGrid
    keys: pl.DataFrame
    has_own_keys: bool
    """Whether the ledgers themselves say who has rows when."""
    versions: Mapping[str, int]
    rows_at_once: int
    limits: StateLogLimits
    write: OriginWriter
    audit: Audit

    def last_origin(self) -> date | None:
        """The newest origin that is stored."""
        number = self.lake.app_version(self.grid.table, _THROUGH)
        return None if number is None else _EPOCH + timedelta(days=number)

    def add(self, first: date, through: date) -> int:
        """Append the rows of new origins; how many."""
        n_rows = 0
        for origins in self._blocks(first, through, self.keys.height):
            app = (_THROUGH, (origins[-1] - _EPOCH).days)
            new = NewOrigins(self.grid, self.keys, origins, self.versions, app, self.audit)
            n_rows += self.write(self.lake, new)
        return n_rows

    def restate(self, last: date) -> GridUpdate:
        """Take old rows again where a straggler may have changed them."""
        positions = {name: self._position(name) for name in self.grid.source_names}
        if all(positions[name] == version for name, version in self.versions.items()):
            return GridUpdate(None)
        stragglers = self._stragglers(positions, last)
        taken, restated = 0, 0
        since = self.grid.first_origin if stragglers is None else self._first_seen(stragglers, last)
        if since is not None:
            concerned = self._stored_keys() if stragglers is None else stragglers
            for origins in self._blocks(since, last, concerned.height):
                counts = self._restate_block(concerned, origins)
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

    def _restate_block(self, concerned: pl.DataFrame, origins: Sequence[date]) -> tuple[int, int]:
        """Take the rows of keys at origins again: (rows taken, rows that differ, came or went)."""
        entity = list(self.grid.feature_set.entity)
        key = [*entity, ORIGIN_DATE]
        keys = self.keys.join(concerned, on=entity, how="semi", nulls_equal=True) if self.has_own_keys else concerned
        stored = _rows_at(self.lake, self.grid, origins)
        rows = grid_rows(self.lake, self.grid, keys, origins, self.versions).select(stored.columns)
        if not self.has_own_keys:
            rows = rows.join(stored, on=key, how="semi", nulls_equal=True)
        before = stored.join(concerned, on=entity, how="semi", nulls_equal=True)
        gone = before.join(rows, on=key, how="anti", nulls_equal=True)
        differing = rows.join(before, on=rows.columns, how="anti", nulls_equal=True)
        days = sorted({*differing[ORIGIN_DATE], *gone[ORIGIN_DATE]})
        if not days:
            return rows.height, 0
        changed = pl.concat([differing.select(key), gone.select(key)])
        kept = stored.filter(pl.col(ORIGIN_DATE).is_in(days)).join(changed, on=key, how="anti", nulls_equal=True)
        frame = pl.concat([kept, differing]).sort(ORIGIN_DATE, *entity)
        self.audit(frame)
        self.lake.replace_partitions(self.grid.table, frame, column=ORIGIN_DATE, values=days)
        return rows.height, differing.height + gone.height

    def _stored_keys(self) -> pl.DataFrame:
        """Keys that have rows, or would get some."""
        key = list(self.grid.feature_set.entity)
        stored = self.lake.scan(self.grid.table).select(key).unique().collect(engine="streaming")
        return pl.concat([stored, self.keys.select(key)]).unique() if self.has_own_keys else stored

    def _blocks(self, first: date, last: date, n_keys: int) -> Iterator[list[date]]:
        """Consecutive origins whose rows are taken together."""
        width = max(1, self.rows_at_once // max(1, n_keys))
        origins = [first + timedelta(days=nr) for nr in range((last - first).days + 1)]
        for start in range(0, len(origins), width):
            yield origins[start : start + width]
