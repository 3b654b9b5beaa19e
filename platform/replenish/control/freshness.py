"""Which feeds are late, judged by data time.

The age of a feed is the time since the newest row known at an instant; the contract's SLA says how old it may be. A run
that finished an hour ago with old data is late all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.model import TIMESTAMP, Contract
from replenish.stores.lake import Audit, DeltaLake, accept_all

FreshnessState = Literal["ok", "warn", "fail", "never"]
FRESHNESS_TABLE = "monitoring/freshness"
FRESHNESS_SCHEMA: dict[str, pl.DataType] = {
    "as_of": TIMESTAMP,
    "as_of_date": pl.Date(),
    "stream": pl.String(),
    "location_id": pl.String(),
    "newest_known_at": TIMESTAMP,
    "age_hours": pl.Float64(),
    "warn_after_hours": pl.Float64(),
    "fail_after_hours": pl.Float64(),
    "state": pl.String(),
    "tier": pl.String(),
    "owner": pl.String(),
    "runbook": pl.String(),
}


@dataclass(frozen=True)
class FeedAge:
    """One stream at one location (None: the stream has no location). `age_hours` is None where nothing is known."""

    stream: str
    location_id: str | None
    newest_known_at: datetime | None
    age_hours: float | None
    state: FreshnessState
    owner: str
    runbook: str

    @property
    def delay_hours(self) -> float:
        """Age as a number that sorts: infinite where nothing was ever known."""
        return math.inf if self.age_hours is None else self.age_hours


@dataclass(frozen=True)
class FreshnessVerdict:
    """All feeds at one instant; `late` holds those not ok, most late first, the never seen at the top."""

    as_of: datetime
    feeds: tuple[FeedAge, ...]

    @property
    def late(self) -> tuple[FeedAge, ...]:
        """Feeds in another state than ok."""
        late = [feed for feed in self.feeds if feed.state != "ok"]
        return tuple(sorted(late, key=lambda f: (-f.delay_hours, f.stream, f.location_id or "")))

    @property
    def n_feeds(self) -> int:
        """Pairs of stream and location judged."""
        return len(self.feeds)

    @property
    def is_healthy(self) -> bool:
        """Whether every feed is ok."""
        return not self.late

    def state_of(self, stream: str, location_id: str | None) -> FreshnessState | Literal["missing"]:
        """State of a stream for a location, or of the stream where it has no locations; `missing` without a feed."""
        states = {feed.location_id: feed.state for feed in self.feeds if feed.stream == stream}
        if not states:
            return "missing"
        if location_id in states:
            return states[location_id]
        return states.get(None, "never")


def judge_freshness(
    newest: pl.DataFrame,
    contracts: Mapping[str, Contract],
    *,
    expected: Sequence[tuple[str, str | None]],
    as_of: datetime,
) -> FreshnessVerdict:
    """Which of the expected feeds are late at an instant.

    Args:
        newest: `(stream, location_id, newest_known_at)`, one row per pair: newest knowledge time at or before `as_of`.
        contracts: By stream; `sla` gives the limits in hours.
        expected: Pairs of stream and location that ought to deliver; one without a row has state `never`.
        as_of: The instant, UTC.

    Returns:
        One `FeedAge` per pair of `expected` or `newest`, sorted by stream and location.
    """
    known = {(row[0], row[1]): row[2] for row in newest.select("stream", "location_id", "newest_known_at").iter_rows()}
    feeds = []
    for stream, location_id in sorted({*known, *expected}, key=lambda pair: (pair[0], pair[1] or "")):
        seen = known.get((stream, location_id))
        contract = contracts[stream]
        age = None if seen is None else (as_of - seen).total_seconds() / 3600
        state: FreshnessState = "ok"
        if age is None:
            state = "never"
        elif age > contract.sla.fail_after_hours:
            state = "fail"
        elif age > contract.sla.warn_after_hours:
            state = "warn"
        feeds.append(FeedAge(stream, location_id, seen, age, state, contract.owner, contract.runbook))
    return FreshnessVerdict(as_of, tuple(feeds))


def _newest_known(lake: DeltaLake, contract: Contract, as_of: datetime) -> pl.DataFrame:
    has_location = "location_id" in contract.names and not contract.is_reference
    keys = pl.col("location_id") if has_location else pl.lit(None, pl.String()).alias("location_id")
    rows = lake.scan(f"silver/{contract.stream}").filter(pl.col("knowledge_time") <= as_of)
    return (
        rows.select(keys, "knowledge_time")
        .group_by("location_id")
        .agg(pl.col("knowledge_time").max().alias("newest_known_at"))
        .select(pl.lit(contract.stream).alias("stream"), "location_id", "newest_known_at")
        .collect()
    )


def freshness_of_lake(
    lake: DeltaLake, contracts: Mapping[str, Contract], dataset: Dataset, as_of: datetime
) -> FreshnessVerdict:
    """Freshness of every stream, from the silver tables as known at `as_of`.

    A stream counts that this data set declares a feed of, or that was known by then through contract-shaped events. A
    location is expected of a located stream once any located stream has shown it.
    """
    known = {s: _newest_known(lake, contracts[s], as_of) for s in contracts if lake.has(f"silver/{s}")}
    streams = sorted(s for s in contracts if dataset.feeds_of(s) or (s in known and known[s].height))
    frames = [known[s] for s in streams if s in known]
    empty = pl.DataFrame(schema={"stream": pl.String(), "location_id": pl.String(), "newest_known_at": TIMESTAMP})
    newest = pl.concat([empty, *frames]).filter(pl.col("newest_known_at").is_not_null())
    locations = newest.get_column("location_id").drop_nulls().unique().sort().to_list()
    expected: list[tuple[str, str | None]] = []
    for stream in streams:
        is_located = "location_id" in contracts[stream].names and not contracts[stream].is_reference
        expected += [(stream, place) for place in locations] if is_located and locations else [(stream, None)]
    return judge_freshness(newest, contracts, expected=expected, as_of=as_of)


def freshness_frame(verdict: FreshnessVerdict, contracts: Mapping[str, Contract]) -> pl.DataFrame:
    """The verdict as rows of `monitoring/freshness`, sorted by stream and location."""
    rows = [
        {
            "as_of": verdict.as_of,
            "as_of_date": verdict.as_of.date(),
            "stream": feed.stream,
            "location_id": feed.location_id,
            "newest_known_at": feed.newest_known_at,
            "age_hours": feed.age_hours,
            "warn_after_hours": contracts[feed.stream].sla.warn_after_hours,
            "fail_after_hours": contracts[feed.stream].sla.fail_after_hours,
            "state": feed.state,
            "tier": contracts[feed.stream].sla.tier,
            "owner": feed.owner,
            "runbook": feed.runbook,
        }
        for feed in verdict.feeds
    ]
    return pl.DataFrame(rows, schema=FRESHNESS_SCHEMA)


def update_freshness(
    lake: DeltaLake,
    contracts: Mapping[str, Contract],
    dataset: Dataset,
    as_of: datetime,
    audit: Audit = accept_all,
) -> FreshnessVerdict:
    """Judge freshness at an instant and keep it in `monitoring/freshness`; the same instant again replaces its rows.

    Kept per instant, so that a breach which healed between two looks still leaves its trace.

    Raises:
        AuditFailed: `audit` refused the rows; nothing was written.
    """
    verdict = freshness_of_lake(lake, contracts, dataset, as_of)
    frame = freshness_frame(verdict, contracts)
    if lake.has(FRESHNESS_TABLE):
        kept = lake.read(FRESHNESS_TABLE).filter(
            (pl.col("as_of_date") == as_of.date()) & (pl.col("as_of") != pl.lit(as_of, TIMESTAMP))
        )
        frame = pl.concat([kept.select(list(FRESHNESS_SCHEMA)), frame]).sort("as_of", "stream", "location_id")
    audit(frame)
    lake.replace_partitions(FRESHNESS_TABLE, frame, column="as_of_date", values=[as_of.date()])
    return verdict
