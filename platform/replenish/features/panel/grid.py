"""Panels: what is asked of a regular grid of series and daily origins, and the values given back, as arrays.

An array of a panel has shape (n_series, n_origins). Days are days since 1970-01-01, instants microseconds since
1970-01-01 UTC; both int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal_windows import IntArray
from replenish.errors import OutOfRange
from replenish.features.offline.query_axis import DAY_US, CutoffCalendar

BoolArray = npt.NDArray[np.bool_]
NarrowArray = npt.NDArray[np.signedinteger[Any]]
"""Integers of 16, 32 or 64 bits, see `narrowest`; sums may wrap on the way, never in a result."""

_EPOCH_DAY = date(1970, 1, 1)
_TIMESTAMP = pl.Datetime("us", "UTC")


def narrowest(bound: int) -> type[np.signedinteger[Any]]:
    """The smallest integer type that holds `-bound .. bound` and one value below: half the bits, half the time."""
    for dtype in (np.int16, np.int32):
        if bound <= np.iinfo(dtype).max:
            return dtype
    return np.int64


@dataclass(frozen=True, eq=False)
class PanelGrid:
    """Every series at the cut-off of every origin date of a range.

    Raises:
        OutOfRange: There is no origin, or a series is named twice.
    """

    series: pl.DataFrame
    """The set's entity columns, one row per series; other columns are not looked at."""
    first_origin: date
    n_origins: int

    def __post_init__(self) -> None:
        if self.n_origins < 1:
            raise OutOfRange("a panel has at least one origin", n_origins=self.n_origins)


@dataclass(frozen=True, eq=False)
class OriginAxis:
    """Consecutive origin dates `first .. first + len - 1` and their cut-offs, at which everything is asked."""

    first: int
    calendar: CutoffCalendar
    instants: IntArray
    """Cut-off of each origin [us], never descending."""
    asked: IntArray
    """For each date of the grid the place of the origin that its cut-off belongs to.

    That is the date itself, save where a zone leaves out a whole day: then two dates have one cut-off, and the later
    one is the origin.
    """

    @classmethod
    def of(cls, grid: PanelGrid, zone: str, cutoff: time) -> OriginAxis:
        """The axis of a grid in a deployment's zone."""
        first = (grid.first_origin - _EPOCH_DAY).days
        days = np.arange(first, first + grid.n_origins, dtype=np.int64)
        calendar = CutoffCalendar.around(first * DAY_US, (first + grid.n_origins) * DAY_US, zone, cutoff)
        origins = calendar.origin_of(calendar.instant_of(days))
        axis = np.arange(first, int(origins[-1]) + 1, dtype=np.int64)
        return cls(first, calendar, calendar.instant_of(axis), origins - first)

    def __len__(self) -> int:
        return len(self.instants)

    @property
    def as_of(self) -> IntArray:
        """Cut-off of each date of the grid [us]."""
        return self.instants[self.asked]

    def place_of(self, instant: IntArray) -> IntArray:
        """Place of the first origin that sees what is known from each instant on; `len` where none does."""
        return np.searchsorted(self.instants, instant, side="left")


@dataclass(frozen=True, eq=False)
class PanelValues:
    """The values of one feature; read only, since features may share memory."""

    values: npt.NDArray[Any]
    """Shape (n_series, n_origins): float64, integers of the least size that certainly holds those of the block, or what
    numpy makes of a column of latest values."""
    is_null: BoolArray | None
    """Where there is no value, and what `values` says there means nothing; None = nowhere."""
    dtype: pl.DataType | type[pl.DataType]
    """Type of the feature in frames."""

    def column(self, name: str) -> pl.Series:
        """The values as a column, origins within series."""
        if self.values.dtype == object:
            return pl.Series(name, self.values.reshape(-1).tolist(), dtype=self.dtype)
        column = pl.Series(name, self.values.reshape(-1)).cast(self.dtype)
        return column if self.is_null is None else column.set(pl.Series(self.is_null.reshape(-1)), None)

    def at_origins(self, places: IntArray) -> PanelValues:
        """The values at some places of the axis."""
        is_null = None if self.is_null is None else self.is_null[:, places]
        return PanelValues(self.values[:, places], is_null, self.dtype)


@dataclass(frozen=True, eq=False)
class PanelBlock:
    """Some series of a panel with all their features, in the set's order."""

    series: pl.DataFrame
    """Entity columns, one row per series."""
    as_of: IntArray
    """Cut-off of each origin date [us]."""
    features: Mapping[str, PanelValues]

    def frame(self) -> pl.DataFrame:
        """A row per (series, origin), as `offline.evaluator.evaluate` gives it: keys, `as_of`, features."""
        columns = [values.column(name) for name, values in self.features.items()]
        return pl.concat([self.spine(), pl.DataFrame(columns)], how="horizontal")

    def spine(self) -> pl.DataFrame:
        """Keys and `as_of` of every (series, origin), origins within series."""
        return panel_spine(self.series, self.as_of)


def panel_spine(series: pl.DataFrame, as_of: IntArray) -> pl.DataFrame:
    """Every row of `series` at every instant [us], instants within series."""
    row = np.repeat(np.arange(series.height), len(as_of))
    instants = pl.Series("as_of", np.tile(as_of, series.height)).cast(_TIMESTAMP)
    return series[row].with_columns(instants)
