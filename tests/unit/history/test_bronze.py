from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from replenish.contracts.reader import read_contracts
from replenish.errors import AuditFailed, BrokenPromise
from replenish.history import bronze
from replenish.history.bronze import append_bronze
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, JournalRecord
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

LOCATIONS = read_contracts()["locations"]
NOW = datetime(2024, 1, 1, tzinfo=UTC)


class ListedLog:
    """A journal of records in memory."""

    def __init__(self) -> None:
        self.entries: list[JournalRecord] = []

    def records(self, after_seq=0, type=None):
        return (r for r in self.entries if r.seq > after_seq and (type is None or r.type in type))

    def accept(self, layout: RootLayout, names: list[str], *, stream="locations", counted=None, type=FILE_ACCEPTED):
        """One file whose rows are the given location ids, each id in a part of its own."""
        seq, parts = len(self.entries) + 1, []
        for nr, name in enumerate(names):
            rows = {"location_id": name, "journal_seq": seq, "row_nr": nr, "knowledge_date": NOW.date()}
            frame = pl.DataFrame([rows], schema={k: LOCATIONS.bronze_schema[k] for k in rows})
            missing = {k: v for k, v in LOCATIONS.bronze_schema.items() if k not in rows}
            frame = frame.with_columns(pl.lit(None, v).alias(k) for k, v in missing.items())
            path = layout.accepted / stream / f"{seq}-{nr}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(path)
            parts.append({"path": f"{stream}/{path.name}", "rows": 1 if counted is None else counted})
        self.entries.append(JournalRecord("f", f"{seq}", type, "x", NOW, f"{stream}@1.0.0", {"parts": parts}, seq))


@pytest.fixture
def layout(tmp_path):
    return RootLayout(tmp_path)


@pytest.fixture
def lake(layout):
    return DeltaLake(layout.lake)


def ids(lake: DeltaLake) -> list[str]:
    return sorted(lake.read("bronze/locations")["location_id"])


def test_each_accepted_file_is_appended_once_and_only_its_own_stream(layout, lake):
    log = ListedLog()
    log.accept(layout, ["A", "B"])
    log.accept(layout, ["X"], stream="suppliers")
    log.accept(layout, [], type=FILE_DEAD)
    append_bronze("locations", LOCATIONS, log, layout, lake)
    log.accept(layout, ["C"])
    commit = append_bronze("locations", LOCATIONS, log, layout, lake)
    assert ids(lake) == ["A", "B", "C"]
    assert append_bronze("locations", LOCATIONS, log, layout, lake) == commit


def test_small_files_share_a_commit_and_a_large_one_has_its_own(layout, lake, monkeypatch):
    monkeypatch.setattr(bronze, "ROWS_PER_COMMIT", 2)
    log = ListedLog()
    for names in (["A"], ["B"], ["C", "D", "E"], ["F"]):
        log.accept(layout, names)
    commit = append_bronze("locations", LOCATIONS, log, layout, lake)
    # The empty table is version 0; then A with B, C with D and E, F.
    assert (commit.version, commit.n_rows) == (3, 6)


def test_a_stream_without_files_has_an_empty_table(layout, lake):
    assert append_bronze("locations", LOCATIONS, ListedLog(), layout, lake).n_rows == 0
    assert lake.schema("bronze/locations") == LOCATIONS.bronze_schema


def test_a_part_that_lost_rows_stops_the_append(layout, lake):
    log = ListedLog()
    log.accept(layout, ["A"], counted=2)
    with pytest.raises(BrokenPromise):
        append_bronze("locations", LOCATIONS, log, layout, lake)
    assert ids(lake) == []


def test_a_failed_audit_is_taken_up_again_by_the_next_call(layout, lake):
    def refuse(rows: pl.DataFrame) -> None:
        raise AuditFailed("no")

    log = ListedLog()
    log.accept(layout, ["A"])
    with pytest.raises(AuditFailed):
        append_bronze("locations", LOCATIONS, log, layout, lake, refuse)
    append_bronze("locations", LOCATIONS, log, layout, lake)
    assert ids(lake) == ["A"]
