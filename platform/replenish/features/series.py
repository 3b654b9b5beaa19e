"""The axes of a feature build: series, periods and blocks of origins, and how gold's rows map onto them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time

import numpy as np
import polars as pl

from replenish.bitemporal import KNOWN_FROM, knowledge_date_expr, state_log
from replenish.bitemporal_windows import Changes, IntArray, latest_known
from replenish.contracts.profile import PERIOD_ANCHOR, ForecastProfile
from replenish.errors import OutOfRange

DEMAND_TABLE = "gold/fct_demand"
SERIES_COLUMNS = ("sku_id", "location_id")
"""What a series is: one article at one location."""

MAX_CELLS = 250_000
"""Series times origins built at once: about 120 MB with sixty columns."""


def series_of(demand: pl.DataFrame) -> pl.DataFrame:
    """All series of `fct_demand`, sorted."""
    return demand.select(SERIES_COLUMNS).unique().sort(SERIES_COLUMNS)


@dataclass(frozen=True)
class OriginBlock:
    """Consecutive origins, as numbers of the periods that they start."""

    first_origin: int
    n_origins: int

    def widened(self, n_before: int) -> OriginBlock:
        """The block with so many more origins before it."""
        return OriginBlock(self.first_origin - n_before, self.n_origins + n_before)


@dataclass(frozen=True)
class BuildAxes:
    """Series (rows) and periods of one build. `series` has the series columns, sorted; row number = series number."""

    series: pl.DataFrame
    period_days: int
    zone: str
    cutoff: time

    @property
    def n_series(self) -> int:
        """Number of series."""
        return self.series.height

    def numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame's rows of these series, with their number in `series` (Int64)."""
        numbers = self.series.with_row_index("series").with_columns(pl.col("series").cast(pl.Int64))
        return frame.join(numbers, on=list(SERIES_COLUMNS), how="inner")

    def event_period(self, column: str) -> pl.Expr:
        """Number of the period that a date lies in."""
        return _days_since_anchor(column).floordiv(self.period_days)

    def known_period(self, column: str | pl.Expr) -> pl.Expr:
        """Number of the first origin that knows a row of this knowledge date."""
        return (_days_since_anchor(column) + (self.period_days - 1)).floordiv(self.period_days)

    def known_period_of_instant(self, column: str) -> pl.Expr:
        """Number of the first origin whose cut-off is not before a UTC timestamp."""
        return self.known_period(knowledge_date_expr(column, self.zone, self.cutoff))


def _days_since_anchor(column: str | pl.Expr) -> pl.Expr:
    day = pl.col(column) if isinstance(column, str) else column
    return (day - pl.lit(PERIOD_ANCHOR)).dt.total_days()


def origin_blocks(origins: Sequence[date], profile: ForecastProfile, n_series: int) -> Iterator[OriginBlock]:
    """Runs of consecutive origins, each small enough to be built at once.

    Raises:
        OutOfRange: A date is not an origin of this profile (a weekly profile starts on Mondays).
    """
    misplaced = [day for day in origins if profile.origin_at_or_before(day) != day]
    if misplaced:
        raise OutOfRange("not an origin of this profile", profile=profile.name, dates=misplaced[:3])
    numbers = sorted({profile.period_index(day) for day in origins})
    longest = max(1, MAX_CELLS // max(1, n_series))
    start = 0
    for position in range(1, len(numbers) + 1):
        is_over = position == len(numbers) or numbers[position] != numbers[position - 1] + 1
        if is_over or position - start == longest:
            yield OriginBlock(numbers[start], position - start)
            start = position


def demand_changes(axes: BuildAxes, numbered: pl.DataFrame, column: str) -> Changes:
    """Changes of one integer column of gold's demand increments (see `BuildAxes.numbered`)."""
    rows = numbered.select(
        "series",
        event=axes.event_period("event_date"),
        known=axes.known_period("knowledge_date"),
        delta=pl.col(column).fill_null(0),
    )
    return changes_of(rows)


def changes_of(rows: pl.DataFrame) -> Changes:
    """Changes from a frame with integer columns `series`, `event`, `known` and `delta`."""
    return Changes(*(rows[c].cast(pl.Int64).to_numpy() for c in ("series", "event", "known", "delta")))


@dataclass(frozen=True)
class KnownValues:
    """Latest values per entity as a state log on the axis of origins; `rows` is sorted by (entity, instant)."""

    rows: pl.DataFrame
    entity: IntArray
    known: IntArray
    n_entities: int

    def at(self, block: OriginBlock) -> IntArray:
        """Row number of the latest row known at each origin, (n_entities, n_origins); -1 where none."""
        numbers = np.arange(self.rows.height, dtype=np.int64)
        return latest_known(
            self.entity,
            self.known,
            numbers,
            n_series=self.n_entities,
            first_origin=block.first_origin,
            n_origins=block.n_origins,
        )


def known_values(
    axes: BuildAxes, ledger: pl.DataFrame, entities: pl.DataFrame, *, fact_key: Sequence[str], values: Sequence[str]
) -> KnownValues:
    """The state log of a ledger for the rows of `entities` (its columns are the key), see `bitemporal.state_log`."""
    key = entities.columns
    log = state_log(ledger.join(entities, on=key, how="semi"), key=key, fact_key=fact_key, values=values)
    numbers = entities.with_row_index("entity").with_columns(pl.col("entity").cast(pl.Int64))
    rows = log.with_columns(known=axes.known_period_of_instant(KNOWN_FROM)).join(
        numbers, on=key, how="left", maintain_order="left"
    )
    return KnownValues(rows, rows["entity"].to_numpy(), rows["known"].to_numpy(), entities.height)


def oldest_known_origin(profile: ForecastProfile, demand: pl.DataFrame) -> int | None:
    """Number of the first origin at which any of this demand is known; None where there is none."""
    first = demand["knowledge_date"].min()
    return -(-(first - PERIOD_ANCHOR).days // profile.period_days) if isinstance(first, date) else None
