"""Freshness by data time: how old the newest known row is, per stream and location."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.model import TIMESTAMP, Contract
from replenish.contracts.reader import read_contracts
from replenish.control.freshness import FRESHNESS_TABLE, freshness_of_lake, judge_freshness, update_freshness
from replenish.errors import AuditFailed
from replenish.stores.lake import DeltaLake

NOW = datetime(2025, 2, 4, 5, tzinfo=UTC)
CONTRACTS: dict[str, Contract] = {
    name: replace(contract, sla=replace(contract.sla, warn_after_hours=30, fail_after_hours=54))
    for name, contract in read_contracts().items()
}


def newest(*rows: tuple[str, str | None, float]) -> pl.DataFrame:
    schema = {"stream": pl.String, "location_id": pl.String, "newest_known_at": TIMESTAMP}
    return pl.DataFrame([(s, p, NOW - timedelta(hours=h)) for s, p, h in rows], schema=schema, orient="row")


def dataset(*streams: str) -> Dataset:
    feeds = [
        Feed(s, s, ("*",), FileFormat(), "UTC", {"x": ColumnRule(column="x")}, KnowledgeRule("arrival"))
        for s in streams
    ]
    return Dataset("t", "UTC", datetime.min.time(), "p", None, tuple(feeds))


def silver(lake: DeltaLake, stream: str, rows: list[tuple[str, datetime]]) -> None:
    schema = {"location_id": pl.String, "knowledge_time": TIMESTAMP}
    lake.overwrite(f"silver/{stream}", pl.DataFrame(rows, schema=schema, orient="row"))


@pytest.mark.parametrize(("hours", "state"), [(0, "ok"), (30, "ok"), (30.1, "warn"), (54, "warn"), (54.1, "fail")])
def test_the_age_of_the_newest_row_decides_the_state(hours: float, state: str) -> None:
    verdict = judge_freshness(newest(("sales", "S1", hours)), CONTRACTS, expected=[], as_of=NOW)
    assert verdict.state_of("sales", "S1") == state


def test_late_feeds_come_most_late_first_and_never_seen_ones_before_all() -> None:
    rows = newest(("sales", "S1", 60), ("sales", "S2", 90), ("sales", "S3", 1))
    verdict = judge_freshness(rows, CONTRACTS, expected=[("stock_counts", "S1")], as_of=NOW)
    assert [(f.stream, f.location_id) for f in verdict.late] == [
        ("stock_counts", "S1"),
        ("sales", "S2"),
        ("sales", "S1"),
    ]
    assert not verdict.is_healthy


def test_a_stream_without_a_feed_is_missing_and_a_feed_without_rows_is_never() -> None:
    verdict = judge_freshness(newest(), CONTRACTS, expected=[("sales", "S1")], as_of=NOW)
    assert verdict.state_of("sales", "S1") == "never"
    assert verdict.state_of("prices", "S1") == "missing"


def test_one_location_can_be_late_while_the_others_are_fresh(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    fresh, old = NOW - timedelta(hours=9), NOW - timedelta(days=3)
    silver(lake, "sales", [("S1", fresh), ("S2", fresh)])
    silver(lake, "stock_counts", [("S1", fresh), ("S2", old)])
    verdict = freshness_of_lake(lake, CONTRACTS, dataset("sales", "stock_counts"), NOW)
    assert {(f.stream, f.location_id): f.state for f in verdict.late} == {("stock_counts", "S2"): "fail"}


def test_what_becomes_known_later_does_not_make_the_past_fresh(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    silver(lake, "sales", [("S1", NOW - timedelta(days=5)), ("S1", NOW + timedelta(minutes=1))])
    assert freshness_of_lake(lake, CONTRACTS, dataset("sales"), NOW).state_of("sales", "S1") == "fail"
    later = freshness_of_lake(lake, CONTRACTS, dataset("sales"), NOW + timedelta(minutes=2))
    assert later.state_of("sales", "S1") == "ok"


def test_every_look_is_kept_and_the_same_look_twice_is_one(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    silver(lake, "sales", [("S1", NOW - timedelta(days=5))])
    for instant in (NOW, NOW + timedelta(minutes=5), NOW):
        update_freshness(lake, CONTRACTS, dataset("sales"), instant)
    assert lake.read(FRESHNESS_TABLE)["as_of"].sort().to_list() == [NOW, NOW + timedelta(minutes=5)]


def test_refused_rows_are_not_written(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    silver(lake, "sales", [("S1", NOW)])

    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    with pytest.raises(AuditFailed):
        update_freshness(lake, CONTRACTS, dataset("sales"), NOW, refuse)
    assert not lake.has(FRESHNESS_TABLE)


def test_a_stream_that_came_without_a_declared_feed_is_judged_like_any_other(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    silver(lake, "sales", [("S1", NOW - timedelta(hours=1))])
    silver(lake, "stock_counts", [("S1", NOW - timedelta(days=3))])
    silver(lake, "prices", [("S1", NOW + timedelta(days=1))])
    silver(lake, "receipts", [])
    verdict = freshness_of_lake(lake, CONTRACTS, dataset("sales"), NOW)
    assert verdict.state_of("stock_counts", "S1") == "fail"
    # Not known yet, or never delivered: as it was for a deployment that has no such stream.
    assert verdict.state_of("prices", "S1") == verdict.state_of("receipts", "S1") == "missing"
