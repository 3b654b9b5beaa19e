"""Snapshots: written while the twin goes on, checked before they are read, passed over where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.postings import Posting, PostingBatch, instant_us
from replenish.features.online.snapshot_file import KEPT_SNAPSHOTS, SnapshotWriter, restore_twin, write_snapshot
from replenish.features.online.twin_plan import KeptHistory

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
CLOCKS = ("UTC", time(6))
SALES = FeatureSource("sales", "gold/fct_demand", "sales", ("sale_id",), (SourceColumn("units", "units", "units"),))
FEATURES = (
    FeatureDefinition("units_sum", "sum", "units", "", "sales", "units", window_days=7),
    FeatureDefinition("units_last", "last", "units", "", "sales", "units"),
)
SET = FeatureSet("small", "1.0.0", "", "", "instant", ("sku_id",), (SALES,), FEATURES)
N_KEYS = 30


def _batches(first: int = 1, last: int = 60) -> Iterator[PostingBatch]:
    """Sales of every key, a few a batch; each key is in many batches."""
    for seq in range(first, last + 1):
        at = NOW - timedelta(hours=100 - seq)
        day = (at.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
        keys = [f"k{(seq * 7 + nr) % N_KEYS}" for nr in range(10)]
        yield PostingBatch(
            seq,
            [
                Posting(
                    "sales", (key,), (f"{seq}-{key}",), day, instant_us(at), instant_us(at), 1, "version", 1, (seq,)
                )
                for key in keys
            ],
        )


def _fed(up_to: int) -> FeatureTwin:
    twin = FeatureTwin(SET, *CLOCKS, NOW)
    for batch in _batches(1, up_to):
        twin.apply(batch)
    return twin


def _vectors(twin: FeatureTwin) -> dict[str, object]:
    return {f"k{nr}": twin.vector((f"k{nr}",), NOW) for nr in range(N_KEYS)}


def _restored(folder: Path, feature_set: FeatureSet = SET) -> tuple[FeatureTwin, int, tuple[str, ...]]:
    twin, found = restore_twin(feature_set, *CLOCKS, folder, NOW, KeptHistory())
    return twin, twin.seq, found.passed_over


@pytest.mark.parametrize("keys_at_once", [1, 7])
def test_a_snapshot_that_was_written_while_the_twin_went_on_gives_the_same_vectors(
    tmp_path: Path, keys_at_once: int
) -> None:
    twin = _fed(20)
    writer = SnapshotWriter(twin, tmp_path)
    for batch in _batches(21, 60):
        twin.apply(batch)
        if not writer.step(keys_at_once):
            break
    else:
        while writer.step(keys_at_once):
            pass
    assert _restored(tmp_path)[1] == 0, "it counts before it is in its place"
    writer.place()
    restored, seq, _ = _restored(tmp_path)
    assert seq == 20
    assert restored.states_through > 20
    for batch in _batches(1, 60):
        restored.apply(batch)
    assert _vectors(restored) == _vectors(_fed(60))


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    write_snapshot(_fed(10), tmp_path)
    newest = write_snapshot(_fed(20), tmp_path)
    sound = newest.read_bytes()
    for damaged in (sound[:-1], sound[:40], b"", sound[:200] + bytes([sound[200] ^ 1]) + sound[201:], sound + b"x"):
        newest.write_bytes(damaged)
        _, seq, passed_over = _restored(tmp_path)
        assert (seq, len(passed_over)) == (10, 1)
    newest.write_bytes(sound)
    assert _restored(tmp_path)[1] == 20


def test_a_snapshot_of_other_definitions_clocks_or_limits_is_passed_over(tmp_path: Path) -> None:
    write_snapshot(_fed(10), tmp_path)
    other = replace(SET, features=(replace(FEATURES[0], window_days=8), FEATURES[1]))
    twin, seq, passed_over = _restored(tmp_path, other)
    assert (len(twin), seq) == (0, 0)
    assert "feature_set_id" in passed_over[0]
    for clocks, limits in ((("UTC", time(7)), KeptHistory()), (CLOCKS, KeptHistory(days=3))):
        assert restore_twin(SET, *clocks, tmp_path, NOW, limits)[1].path is None
    # Words may change, and the order of features in the file.
    same = replace(SET, description="other words", features=FEATURES[::-1])
    twin, seq, _ = _restored(tmp_path, same)
    assert seq == 10
    assert twin.vector(("k1",), NOW) == _fed(10).vector(("k1",), NOW)[::-1]


def test_a_draft_is_no_snapshot_and_old_ones_are_removed(tmp_path: Path) -> None:
    writer = SnapshotWriter(_fed(5), tmp_path)
    writer.step()
    assert _restored(tmp_path)[1] == 0
    for up_to in (10, 20, 30):
        write_snapshot(_fed(up_to), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000020.snapshot", "000000000030.snapshot"]
    assert KEPT_SNAPSHOTS == 2
