"""Feast's side of the as-of benchmark, a program of its own: nothing of the platform is imported here.

Its point-in-time join on the offline store that runs on one machine, DuckDB, over a Parquet file of events. By default
it joins by event time alone, so it reads what nobody knew yet.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd


def feast_join(folder: Path, rounds: int, days: int) -> None:
    """Join the events of `folder` to its spine, keep the answer, print figures as JSON; `days` is the time-to-live."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Int64

    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
    source = FileSource(
        path=str(folder / "events.parquet"), timestamp_field="event_time", created_timestamp_column="knowledge_time"
    )
    view = FeatureView(
        name="sales",
        entities=[entity],
        ttl=timedelta(days=days),
        schema=[Field(name="units", dtype=Int64)],
        source=source,
    )
    store.apply([entity, view])
    spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"as_of": "event_timestamp"})
    figures = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        found = store.get_historical_features(entity_df=spine, features=["sales:units"]).to_df()
        figures.append(
            {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_mb": _peak_mb()}
        )
    found[["row_nr", "units"]].to_parquet(folder / "feast.parquet")
    print(json.dumps(figures))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    feast_join(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
