"""What was known when: cuts on `knowledge_time`, live versions, and the state log behind every latest-value feature.

A *ledger* is a frame of postings as silver and gold keep them: columns `event_time`, `knowledge_time`, `version_nr`,
`posting_kind` and `posting_sign` beside keys and values. A row of kind `version` adds a fact's version; a row of kind
`reversal` takes the version of the same fact key and `version_nr` back at its own `knowledge_time`.
Sums over windows of event dates are in `bitemporal_windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from replenish.errors import BrokenPromise, OutOfRange
from replenish.range_maximum import NO_VALUE, range_maximum

KNOWN_FROM = "known_from"
"""Column of a state log: the instant from which the row's value is the latest known one."""

MATCHED_EVENT_TIME = "matched_event_time"
"""Column added by `as_of_join`: event time of the version that was found; null where none was."""


def origin_instant(origin: date, zone: str, cutoff: time) -> datetime:
    """The cut-off instant of an origin date, in UTC.

    A cut-off that a clock change skips counts with the offset before the gap; one that occurs twice is the first.

    >>> origin_instant(date(2025, 2, 4), "Europe/Berlin", time(6))
    datetime.datetime(2025, 2, 4, 5, 0, tzinfo=datetime.timezone.utc)
    """
    return datetime.combine(origin, cutoff, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def origin_instant_expr(origin_date: str | pl.Expr, zone: str, cutoff: time) -> pl.Expr:
    """The cut-off instants of a column of origin dates, in UTC: `origin_instant` as an expression."""
    day = pl.col(origin_date) if isinstance(origin_date, str) else origin_date
    wall = day.cast(pl.Date).dt.combine(cutoff, "us")
    day_before = wall.dt.offset_by("-1d").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return pl.coalesce(
        wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC"),
        day_before.dt.convert_time_zone("UTC") + pl.duration(days=1),
    )


def knowledge_date_expr(column: str | pl.Expr, zone: str, cutoff: time) -> pl.Expr:
    """The first origin date at which a row known at `column` (a UTC timestamp) is visible.

    Args:
        column: Name or expression of the knowledge time, `Datetime("us", "UTC")`.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.

    Returns:
        A date expression D with `origin_instant(D - 1) < column <= origin_instant(D)`.
    """
    known = pl.col(column) if isinstance(column, str) else column
    local_date = known.dt.convert_time_zone(zone).dt.date()
    is_past_cutoff = known > origin_instant_expr(local_date, zone, cutoff)
    return pl.when(is_past_cutoff).then(local_date.dt.offset_by("1d")).otherwise(local_date)


def says_what_is_above(key: Sequence[str], content: Sequence[str]) -> pl.Expr:
    """Whether a record says what the record above it says of the same fact, so that it brings nothing new.

    Args:
        key: The whole fact key; records are in order of key, knowledge time and arrival.
        content: Columns outside the key, to which `is_cancellation` is added. Of a retraction only that it is one
            counts.
    """
    flag = pl.col("is_retraction")
    same_key = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in key)
    columns = [*content, "is_cancellation"]
    equal = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in columns)
    return (pl.int_range(pl.len()) > 0) & same_key & (flag == flag.shift(1)).fill_null(False) & (flag | equal)


def live_versions(ledger: pl.DataFrame, *, key: Sequence[str], as_of: datetime) -> pl.DataFrame:
    """The one version of each fact that was live at `as_of`; superseded and retracted ones are gone.

    Args:
        ledger: Postings; rows of other kinds than `version` and `reversal` are ignored.
        key: The whole fact key; with a part of it versions of different facts would mix.
        as_of: Cut on `knowledge_time` (inclusive), with an offset.

    Returns:
        Ledger rows of kind `version`, at most one per key, sorted by key. Event times may lie in the future.

    Raises:
        BrokenPromise: Two versions of one key are live, so `key` is not the fact key or the ledger is damaged.
    """
    known = ledger.filter(pl.col("knowledge_time") <= as_of)
    versions = known.filter(pl.col("posting_kind") == "version")
    reversals = known.filter(pl.col("posting_kind") == "reversal").select(*key, "version_nr")
    live = versions.join(reversals, on=[*key, "version_nr"], how="anti", nulls_equal=True)
    twice = live.filter(pl.struct(*key).is_duplicated())
    if twice.height:
        raise BrokenPromise("two live versions of one fact key", key=tuple(key), example=twice.row(0))
    return live.sort(*key)


def state_log(
    ledger: pl.DataFrame,
    *,
    key: Sequence[str],
    fact_key: Sequence[str],
    values: Sequence[str],
    ahead: timedelta = timedelta(0),
) -> pl.DataFrame:
    """The instants at which the latest value known of each entity changes.

    A version is live in `[max(event_time - ahead, knowledge_time), knowledge_time of its reversal)`; of the live ones
    the greatest `(event_time, knowledge_time)` counts. Exact with late, corrected, retracted, moved and future facts.

    Args:
        ledger: Postings with the columns named here and `event_time`, `knowledge_time`, `version_nr`, `posting_kind`.
        key: Entity whose latest value is wanted, e.g. (sku_id, location_id).
        fact_key: Key under which versions of one fact succeed one another; `key` is usually a part of it.
        values: Columns to carry.
        ahead: Looks this far past the as-of instant: the value planned for then, as known at the instant.

    Returns:
        `key`, `known_from`, `is_live`, `event_time` and `values`; `is_live` false is a tombstone (nothing live from
        there on, event time and values null). Sorted by key, then `known_from`; one row per (key, known_from).

    Source: DESIGN §4, "Latest values: the state log".
    """
    versions = _version_intervals(ledger, key, fact_key, values, ahead)
    order = [*key, "event_time", "knowledge_time", *[c for c in fact_key if c not in key], "version_nr"]
    versions = versions.sort(order, maintain_order=True).with_row_index("priority")
    complex_keys = versions.filter(~pl.col("is_simply_superseded")).select(*key).unique()
    simple = versions.join(complex_keys, on=list(key), how="anti", nulls_equal=True)
    swept = versions.join(complex_keys, on=list(key), how="semi", nulls_equal=True)
    log = pl.concat([_running_maxima(simple, key), _sweep(swept, key)])
    columns = [*key, KNOWN_FROM, pl.col("priority").is_not_null().alias("is_live"), "event_time", *values]
    values_of = versions.select("priority", "event_time", *[v for v in values if v != "event_time"])
    return log.join(values_of, on="priority", how="left").sort(*key, KNOWN_FROM).select(columns)


def _version_intervals(
    ledger: pl.DataFrame, key: Sequence[str], fact_key: Sequence[str], values: Sequence[str], ahead: timedelta
) -> pl.DataFrame:
    """One row per version with `start`, `stop` (null: still live) and whether its successor simply takes its place."""
    identity = [*fact_key, "version_nr"]
    wanted = list(dict.fromkeys([*identity, *key, *values, "event_time", "knowledge_time"]))
    versions = ledger.filter(pl.col("posting_kind") == "version").select(wanted)
    stops = ledger.filter(pl.col("posting_kind") == "reversal").select(*identity, stop="knowledge_time")
    versions = versions.join(stops, on=identity, how="left", nulls_equal=True).sort(identity)
    same_fact = pl.all_horizontal(pl.col(c).eq_missing(pl.col(c).shift(-1)) for c in dict.fromkeys([*fact_key, *key]))
    successor_fits = (pl.col("event_time") == pl.col("event_time").shift(-1)) & (
        pl.col("stop") == pl.col("knowledge_time").shift(-1)
    )
    return versions.with_columns(
        is_simply_superseded=pl.col("stop").is_null() | (same_fact & successor_fits).fill_null(False),
        start=pl.max_horizontal(pl.col("event_time") - ahead, "knowledge_time"),
    )


def _running_maxima(versions: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The log of entities where every stop is the start of a greater version of the same event time."""
    ordered = versions.sort("start", "priority").sort(*key, maintain_order=True)
    # Priority sorts by key first, so one running maximum over the whole frame restarts by itself at each entity.
    kept = ordered.filter(pl.col("priority") == pl.col("priority").cum_max())
    kept = kept.unique(subset=[*key, "start"], keep="last", maintain_order=True)
    return kept.select(*key, pl.col("start").alias(KNOWN_FROM), "priority")


def _sweep(versions: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The log of the other entities: the greatest priority alive at each start and stop, where it changes."""
    entity = pl.struct(*key).rle_id().cast(pl.Int64).alias("_entity")
    lasting = versions.filter(pl.col("stop").is_null() | (pl.col("stop") > pl.col("start"))).sort("priority")
    lives = lasting.select(*key, entity, "start", "stop", "priority")
    changes = pl.concat([lives.select("_entity", _instant=c) for c in ("start", "stop")]).drop_nulls()
    instants = (
        changes.unique().sort("_entity", "_instant").with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_nr"))
    )
    # A version that is never taken back lasts to the end of its entity's instants.
    ends = instants.group_by("_entity").agg(end=pl.col("_nr").max() + 1)
    places = [
        lives.join(
            instants, how="left", left_on=["_entity", c], right_on=["_entity", "_instant"], maintain_order="left"
        )
        for c in ("start", "stop")
    ]
    end = lives.join(ends, on="_entity", how="left", maintain_order="left")["end"]
    first, stop = places[0]["_nr"], places[1]["_nr"].fill_null(end)
    number = lives["priority"].cast(pl.Int64)
    winner = range_maximum(instants.height, first.to_numpy(), stop.to_numpy(), number.to_numpy())
    log = instants.with_columns(pl.Series("priority", winner).replace(NO_VALUE, None).cast(pl.UInt32))
    same_entity = pl.col("_entity").eq_missing(pl.col("_entity").shift(1))
    before = pl.when(same_entity).then(pl.col("priority").shift(1))
    log = log.filter(pl.col("priority").ne_missing(before))
    keys = lives.select(*key, "_entity").unique("_entity")
    return log.join(keys, on="_entity").select(*key, pl.col("_instant").alias(KNOWN_FROM), "priority")


def as_of_join(
    spine: pl.DataFrame,
    log: pl.DataFrame,
    *,
    key: Sequence[str],
    as_of: str,
    values: Sequence[str],
    time_to_live: timedelta | None = None,
) -> pl.DataFrame:
    """The spine with the latest values that were known at each row's instant.

    Args:
        spine: Rows with `key` and `as_of`; their order and columns are kept.
        log: A state log of the same key (see `state_log`).
        key: Entity columns.
        as_of: Name of the spine's UTC timestamp column.
        values: Log columns to add; null where nothing is live, or where it is older than `time_to_live`.
        time_to_live: Largest age of the matched event time at `as_of`; None = any.

    Returns:
        Spine columns, `values` and `matched_event_time`.

    Raises:
        OutOfRange: A value name is already a column of the spine.
    """
    clash = set(values) & set(spine.columns)
    if clash:
        raise OutOfRange("the spine already has these columns", columns=sorted(clash))
    right = log.select(*key, KNOWN_FROM, pl.col("event_time").alias(MATCHED_EVENT_TIME), *values)
    left = spine.with_row_index("_spine_row").sort(as_of)
    joined = left.join_asof(
        right.sort(KNOWN_FROM),
        left_on=as_of,
        right_on=KNOWN_FROM,
        by=list(key),
        strategy="backward",
        coalesce=False,
        # Both sides are sorted here; polars cannot check it by group and would warn.
        check_sortedness=False,
    )
    if time_to_live is not None:
        fresh = pl.col(as_of) - pl.col(MATCHED_EVENT_TIME) <= time_to_live
        joined = joined.with_columns(pl.when(fresh).then(pl.col(c)).alias(c) for c in [*values, MATCHED_EVENT_TIME])
    return joined.sort("_spine_row").select(*spine.columns, *values, MATCHED_EVENT_TIME)


def planned_value_at_step(
    spine: pl.DataFrame,
    ledger: pl.DataFrame,
    *,
    key: Sequence[str],
    fact_key: Sequence[str],
    as_of: str,
    values: Sequence[str],
    step: int,
    period_days: int = 1,
) -> pl.DataFrame:
    """The spine with the values planned for a forecast step, as known at each row's instant.

    Step 1 is the period that starts at the origin, so the value in force at the cut-off itself; step h lies
    `(h - 1) * period_days` days later. Columns as in `as_of_join`.
    """
    if step < 1:
        raise OutOfRange("a forecast step is at least 1", step=step)
    ahead = timedelta(days=(step - 1) * period_days)
    log = state_log(ledger, key=key, fact_key=fact_key, values=values, ahead=ahead)
    return as_of_join(spine, log, key=key, as_of=as_of, values=values)
