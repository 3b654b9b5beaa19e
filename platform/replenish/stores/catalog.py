"""Published tables: Apache Iceberg copies of gold, forecasts and decisions, for engines that do not read Delta.

A SQLite catalog and its warehouse lie under one folder. Derived from the lake: may be deleted and published again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl

from replenish.digests import table_digest
from replenish.errors import BrokenPromise, TableMissing

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.table import Table

DIGEST_PROPERTY = "replenish.digest"
"""Snapshot property: table digest of what the snapshot holds."""
SOURCE_VERSION_PROPERTY = "replenish.delta-version"
"""Snapshot property: the Delta version the snapshot copies."""


@dataclass(frozen=True)
class Publication:
    """One published table and the proof that it equals its source.

    `digest` is of the rows as read back through pyiceberg; `is_new` is False where the content was there already.
    """

    table: str
    snapshot_id: int
    source_version: int
    n_rows: int
    digest: str
    is_new: bool


class IcebergCatalog:
    """Iceberg tables of one deployment; `gold/fct_demand` of the lake is table `fct_demand` of namespace `gold`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, table: str, frame: pl.DataFrame, *, key: Sequence[str], source_version: int) -> Publication:
        """Make the Iceberg table hold exactly these rows, and prove it by reading them back.

        Args:
            table: Name of the table in the lake.
            frame: All rows of the table at `source_version`; `key` columns sort it for the digest.
            key: Columns of the table's grain.
            source_version: Delta version `frame` was read at.

        Returns:
            The publication; content already published under the same digest is left alone.

        Raises:
            BrokenPromise: The rows read back differ from `frame`.
        """
        digest = table_digest(frame, key)
        target = self._ensure(table, frame)
        held = _current_digest(target)
        if held != digest or _row_total(target) != frame.height:
            properties = {DIGEST_PROPERTY: digest, SOURCE_VERSION_PROPERTY: str(source_version)}
            # pyiceberg warns when an overwrite finds nothing to delete.
            write = target.overwrite if _row_total(target) else target.append
            write(_arrow(frame), snapshot_properties=properties)
        read_back = table_digest(self.read(table).select(frame.columns), key)
        if read_back != digest:
            raise BrokenPromise("published rows differ from their source", table=table, source_version=source_version)
        snapshot = self._load(table).current_snapshot()
        return Publication(
            table=table,
            snapshot_id=snapshot.snapshot_id if snapshot else 0,
            source_version=source_version,
            n_rows=frame.height,
            digest=digest,
            is_new=held != digest,
        )

    def read(self, table: str) -> pl.DataFrame:
        """All rows of the current snapshot, in no particular order.

        Raises:
            TableMissing: Nothing was published under this name.
        """
        return cast(pl.DataFrame, pl.from_arrow(self._load(table).scan().to_arrow()))

    def tables(self) -> tuple[str, ...]:
        """Names of all published tables, sorted."""
        catalog = self._open()
        names = ["/".join(n) for space in catalog.list_namespaces() for n in catalog.list_tables(space)]
        return tuple(sorted(names))

    def _open(self) -> SqlCatalog:
        # Imported here: pyiceberg and its SQL layer take seconds that no other stage should pay.
        from pyiceberg.catalog.sql import SqlCatalog

        warehouse = self._folder / "warehouse"
        warehouse.mkdir(parents=True, exist_ok=True)
        return SqlCatalog(
            "replenish",
            uri=f"sqlite:///{(self._folder / 'catalog.sqlite').absolute()}",
            warehouse=warehouse.absolute().as_uri(),
        )

    def _load(self, table: str) -> Table:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            return self._open().load_table(_identifier(table))
        except NoSuchTableError as missing:
            raise TableMissing("nothing was published under this name", table=table) from missing

    def _ensure(self, table: str, frame: pl.DataFrame) -> Table:
        catalog = self._open()
        space, _ = identifier = _identifier(table)
        schema = _arrow(frame.clear()).schema
        catalog.create_namespace_if_not_exists(space)
        if not catalog.table_exists(identifier):
            return catalog.create_table(identifier, schema=schema)
        target = catalog.load_table(identifier)
        gone = sorted(set(target.schema().column_names) - set(frame.columns))
        with target.update_schema(allow_incompatible_changes=True) as change:
            change.union_by_name(schema)
            for name in gone:
                change.delete_column(name)
        return catalog.load_table(identifier)


def _identifier(table: str) -> tuple[str, str]:
    space, _, name = table.rpartition("/")
    return space or "main", name


def _arrow(frame: pl.DataFrame) -> pa.Table:
    """Arrow rows in types Iceberg knows: it has no 8- and 16-bit integers."""
    small = frame.with_columns(pl.col(pl.Int8, pl.Int16).cast(pl.Int32), pl.col(pl.UInt8, pl.UInt16).cast(pl.Int32))
    return small.with_columns(pl.col(pl.UInt32, pl.UInt64).cast(pl.Int64)).to_arrow(
        compat_level=pl.CompatLevel.oldest()
    )


def _current_digest(target: Table) -> str | None:
    snapshot = target.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return None
    return snapshot.summary.additional_properties.get(DIGEST_PROPERTY)


def _row_total(target: Table) -> int:
    snapshot = target.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary.additional_properties.get("total-records", "0"))
