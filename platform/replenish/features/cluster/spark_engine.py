"""The feature query on a Spark cluster, through Spark Connect; needs the extra `cluster`.

Spark knows nothing of Delta here. It is told which Parquet files make up a pinned version, writes Parquet files, and
the platform commits them. So lake and executors have to see the same paths: a shared volume, or an object store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from sqlglot import exp

from replenish.errors import NotApplicable, OutOfRange
from replenish.features.cluster.calendar_tables import CUTOFF_DAYS, ORIGIN_SPANS, CalendarTables, calendar_tables
from replenish.features.cluster.engine import FeatureJob, PinnedTable, written_before
from replenish.features.cluster.feature_query import feature_query
from replenish.features.cluster.ledger_view import ledger_query, stored_columns, stored_view
from replenish.features.cluster.query_base import AS_OF, SPINE_VIEW, source_view
from replenish.features.cluster.query_checks import (
    N_INSTANTS,
    N_ROWS,
    NEWEST,
    OLDEST,
    clockless_query,
    off_cutoff_query,
    spine_query,
)
from replenish.features.cluster.staged_parts import PartedColumn, commit_parts
from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.grid_update import GridUpdate, NewOrigins, update_feature_grid, write_origins
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all

SPARK_SETTINGS = {
    # Instants are shown and cast in UTC alone; a sum that leaves its type is an error, not another number.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    # Spark writes a timestamp format of its own by default, which Delta does not have.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "snappy",
    # The folders of a partitioned table are read with the types of the table.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}
"""Settings of a session that the results depend on."""

_SPARK_TYPES = {
    pl.Boolean: "BOOLEAN",
    pl.Int8: "TINYINT",
    pl.Int16: "SMALLINT",
    pl.Int32: "INT",
    pl.Int64: "BIGINT",
    pl.Float32: "FLOAT",
    pl.Float64: "DOUBLE",
    pl.String: "STRING",
    pl.Date: "DATE",
}
Session = Any
"""A `pyspark.sql.SparkSession`; the package is there with the extra only."""


@contextmanager
def spark_session(address: str) -> Iterator[Session]:
    """A session of its own on a Spark Connect server, such as `sc://spark-connect:15002`.

    Raises:
        NotApplicable: The extra `cluster` is not installed.
    """
    session = _client().builder.remote(address).create()
    try:
        for name, value in SPARK_SETTINGS.items():
            session.conf.set(name, value)
        yield session
    finally:
        session.stop()


def _client() -> Any:
    """The class of Spark Connect's sessions.

    Its package takes a program that came by `python -c`, as workers of test runners and of process pools do, for its
    own doctests and ends it; so it is shown a file name while it loads.
    """
    program = sys.modules["__main__"]
    is_nameless = not hasattr(program, "__file__")
    if is_nameless:
        program.__file__ = "-c"
    try:
        from pyspark.sql.connect.session import SparkSession
    except ImportError as fault:
        raise NotApplicable("the cluster engine needs the extra `cluster` (pyspark-client)") from fault
    finally:
        if is_nameless:
            del program.__file__
    return SparkSession


class ClusterEngine:
    """Evaluates on the Spark cluster behind a Spark Connect address.

    Args:
        address: `sc://host:port`, with `;token=...;use_ssl=true` where the server asks for them.
        settings: More settings of the session, such as the number of shuffle partitions.
    """

    def __init__(self, address: str, settings: dict[str, str] | None = None) -> None:
        self._address = address
        self._settings = settings or {}

    def evaluate(self, job: FeatureJob, lake: DeltaLake) -> TableCommit:
        """See `FeatureEngine`."""
        done = written_before(job, lake)
        if done is not None:
            return done
        with self._session() as session:
            register(session, job, lake)
            calendar = checked_calendar(session, job.feature_set, job.zone, job.cutoff)
            rows = session.sql(feature_query(job.feature_set, calendar).sql("spark"))

            def write(folder: Path) -> None:
                rows.write.parquet(str(folder))

            return commit_parts(lake, job.target, write, job.app)

    def update_grid(self, lake: DeltaLake, grid: FeatureGrid, through: date, audit: Audit = accept_all) -> GridUpdate:
        """See `FeatureEngine`; the rows of new origins are made on the cluster, a session for each block of them."""
        return update_feature_grid(lake, grid, None, through, write=self._write_origins, audit=audit)

    def _write_origins(self, lake: DeltaLake, new: NewOrigins) -> int:
        spine = new.grid.spine(new.keys, new.origins)
        if spine.is_empty():
            # Of no rows Spark writes no file, so that nothing would say what columns there are.
            return write_origins(lake, new)
        with self._session() as session:
            register_grid(session, lake, new, spine)
            calendar = checked_calendar(session, new.grid.feature_set, new.grid.zone, new.grid.cutoff)
            rows = session.sql(feature_query(new.grid.feature_set, calendar).sql("spark"))

            def write(folder: Path) -> None:
                rows.repartition(ORIGIN_DATE).write.partitionBy(ORIGIN_DATE).parquet(str(folder))
                new.audit(staged_keys(folder, spine))

            place = spine.columns.index(ORIGIN_DATE)
            commit_parts(lake, new.grid.table, write, new.app, PartedColumn(ORIGIN_DATE, pa.date32(), place))
        return spine.height

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with spark_session(self._address) as session:
            for name, value in self._settings.items():
                session.conf.set(name, value)
            yield session


def register(session: Session, job: FeatureJob, lake: DeltaLake) -> None:
    """Name the job's tables in a session.

    Raises:
        OutOfRange: A table lacks columns, or has the name of a feature for one.
    """
    spine = _schema(lake, job.spine)
    _require(spine, (*job.feature_set.entity, AS_OF), job.spine)
    clash = sorted(set(job.feature_set.feature_names) & set(spine))
    if clash:
        raise OutOfRange("the spine already has columns of these names", table=job.spine.table, columns=clash)
    read_pinned(session, lake, job.spine, list(spine)).createOrReplaceTempView(SPINE_VIEW)
    for name, at in job.ledgers.items():
        columns = ledger_columns(job.feature_set, job.feature_set.source(name))
        _require(_schema(lake, at), columns, at)
        read_pinned(session, lake, at, columns).createOrReplaceTempView(source_view(name))


def register_grid(session: Session, lake: DeltaLake, new: NewOrigins, spine: pl.DataFrame) -> None:
    """Name the tables of a grid's new origins in a session: the spine, and each source renamed and cast."""
    arrow = spine.to_arrow(compat_level=pl.CompatLevel.oldest())
    session.createDataFrame(arrow).createOrReplaceTempView(SPINE_VIEW)
    feature_set = new.grid.feature_set
    for name in new.grid.source_names:
        source, table = feature_set.source(name), new.grid.tables[name]
        at, columns = PinnedTable(table.table, new.versions[name]), stored_columns(feature_set, source, table)
        _require(_schema(lake, at), columns, at)
        read_pinned(session, lake, at, columns).createOrReplaceTempView(stored_view(name))
        query = ledger_query(feature_set, source, table).sql("spark")
        session.sql(query).createOrReplaceTempView(source_view(name))


def staged_keys(folder: Path, spine: pl.DataFrame) -> pl.DataFrame:
    """The spine's columns of part files that lie in folders by origin."""
    by_origin = {ORIGIN_DATE: pl.Date()}
    staged = pl.scan_parquet(f"{folder}/*/*.parquet", hive_partitioning=True, hive_schema=by_origin)
    return staged.select(spine.columns).cast(dict(spine.schema)).collect()  # type: ignore[arg-type]


def checked_calendar(session: Session, feature_set: FeatureSet, zone: str, cutoff: time) -> CalendarTables:
    """The calendar of the session's spine, registered; refuses what the embedded engine refuses.

    Raises:
        OutOfRange: An `as_of` is null, or no cut-off although the set is daily; a row of a source lacks a clock.
    """

    def ask(query: exp.Select) -> dict[str, Any]:
        return dict(session.sql(query.sql("spark")).toArrow().to_pylist()[0])

    found = ask(spine_query())
    if found[N_INSTANTS] != found[N_ROWS]:
        raise OutOfRange("as_of is null", column=AS_OF, rows=found[N_ROWS] - found[N_INSTANTS])
    calendar = calendar_tables(found[OLDEST] or 0, found[NEWEST] or 0, zone, cutoff)
    for name, table in ((ORIGIN_SPANS, calendar.spans), (CUTOFF_DAYS, calendar.days)):
        session.createDataFrame(table.to_arrow()).createOrReplaceTempView(name)
    if feature_set.clock == "daily" and (n_off := ask(off_cutoff_query())[N_ROWS]):
        raise OutOfRange("a daily set is evaluated at cut-offs only", rows=n_off)
    for name in dict.fromkeys(f.source for f in feature_set.features if f.source is not None):
        n_wrong = ask(clockless_query(feature_set, feature_set.source(name)))[N_ROWS]
        if n_wrong:
            raise OutOfRange("rows without a clock", source=name, rows=n_wrong)
    return calendar


def read_pinned(session: Session, lake: DeltaLake, at: PinnedTable, columns: list[str]) -> Any:
    """Some columns of one version of a table, as a Spark frame over exactly that version's files."""
    folder = lake.path(at.table)
    files = [str(folder / unquote(path)) for path in lake.file_paths(at.table, version=at.version)]
    schema = ", ".join(_declared(name, dtype) for name, dtype in _schema(lake, at).items())
    if not files:
        return session.createDataFrame([], schema).select(*columns)
    reader = session.read.schema(schema).option("basePath", str(folder))
    return reader.parquet(*files).select(*columns)


def _schema(lake: DeltaLake, at: PinnedTable) -> dict[str, pl.DataType]:
    return dict(lake.scan(at.table, version=at.version).collect_schema())


def _declared(name: str, dtype: pl.DataType) -> str:
    """One column in Spark's words, written by sqlglot: the name may be anything."""
    if isinstance(dtype, pl.Datetime):
        kind = "TIMESTAMP_NTZ" if dtype.time_zone is None else "TIMESTAMP"
    else:
        kind = _SPARK_TYPES.get(type(dtype), "")
    if not kind:
        raise OutOfRange("no column type of the cluster engine", column=name, dtype=str(dtype))
    column = exp.ColumnDef(this=exp.to_identifier(name, quoted=True), kind=exp.DataType.build(kind, dialect="spark"))
    return column.sql("spark")


def _require(schema: dict[str, pl.DataType], columns: Any, at: PinnedTable) -> None:
    missing = [name for name in columns if name not in schema]
    if missing:
        raise OutOfRange("the table lacks columns", table=at.table, columns=missing)
