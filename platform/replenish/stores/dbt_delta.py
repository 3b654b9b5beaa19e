"""dbt-duckdb plugin: commits what a gold model staged as Parquet to the lake, as one Delta version.

Named in `dbt/profiles.yml`; dbt imports it, nothing here does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig

from replenish.errors import StoreError
from replenish.stores.lake import DeltaLake, TableCommit

ROWS_PER_BATCH = 131_072


class Plugin(BasePlugin):
    """Settings: `lake`, the folder of the lake; `staged`, where dbt stages files, made here since DuckDB does not."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Remember the lake and make the staging folder."""
        self._lake = DeltaLake(Path(plugin_config["lake"]))
        self._staged = Path(plugin_config["staged"])
        self._parent = os.getppid()

    def configure_cursor(self, cursor: Any) -> None:
        """Called before the first statement of a model."""
        self._staged.mkdir(parents=True, exist_ok=True)

    def store(self, target_config: TargetConfig) -> None:
        """Overwrite the Delta table `<schema>/<model>` with the staged rows.

        Raises:
            StoreError: The run that started dbt was killed: the next one may have built newer rows by now.
        """
        if os.getppid() != self._parent:
            raise StoreError(
                "the run that started dbt has ended; nothing more is written for it", table=target_config.relation.name
            )
        if target_config.location is None:
            raise StoreError("a gold model is staged to a file first", model=target_config.relation.identifier)
        relation = target_config.relation
        commit_staged(self._lake, f"{relation.schema}/{relation.identifier}", Path(target_config.location.path))


def commit_staged(lake: DeltaLake, table: str, path: Path) -> TableCommit:
    """Stream a staged Parquet file into the table, replacing its rows.

    dbt-duckdb writes a model without rows as one row that is null throughout; it is left out here.
    """
    with pq.ParquetFile(path) as staged:
        schema = staged.schema_arrow.remove_metadata()
        rows = _batches(staged)
        return lake.overwrite(table, pa.RecordBatchReader.from_batches(schema, (b.cast(schema) for b in rows)))


def _batches(staged: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    is_single = staged.metadata.num_rows == 1
    for batch in staged.iter_batches(ROWS_PER_BATCH):
        if not (is_single and all(column.null_count == 1 for column in batch.columns)):
            yield batch
