"""The dense panel form of the offline evaluator: a feature set over a regular grid, block by block of series.

Every value is the one that `offline.evaluator.evaluate` gives for the same (series, cut-off). Latest values, and
deviations of totals in the millions, are asked there, since a plane has nothing to offer for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import time

import numpy as np
import polars as pl

from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.ledger_checks import check_bounds, check_clocks, check_ledgers
from replenish.features.offline.ledger_parts import LedgerFrame, declared_ledger
from replenish.features.offline.measure_features import posted_statistics
from replenish.features.offline.measures import ledger_columns, measure_rows, measures_of
from replenish.features.panel.block_ledgers import BlockLedgers
from replenish.features.panel.grid import OriginAxis, PanelBlock, PanelGrid, PanelValues, panel_spine
from replenish.features.panel.plane_features import PanelMeasure

SERIES_PER_BLOCK = 256
"""Of five years each, with twenty features: about 150 MB a block, and arrays that stay in a processor's cache."""


def evaluate_panel(
    feature_set: FeatureSet,
    grid: PanelGrid,
    ledgers: Mapping[str, LedgerFrame],
    zone: str,
    cutoff: time,
    *,
    series_per_block: int = SERIES_PER_BLOCK,
    workers: int = 1,
) -> Iterator[PanelBlock]:
    """The features of a set for all series at all origins of a grid, each as known at the origin's cut-off.

    Args:
        feature_set: What to compute.
        grid: Series and origin dates.
        ledgers: By name of source its postings or increments, in memory or lazy; rows of other series are ignored.
            Sorted by the first entity column they are read in slices.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        series_per_block: Series to evaluate together; bounds the memory.
        workers: Threads; one more block than these is held at a time.

    Returns:
        Blocks in order of the series' keys; none for a grid without series.

    Raises:
        OutOfRange: The grid lacks an entity column or names a series twice; a ledger lacks a column, has one of a
            wrong type or a posting without a clock; the values of a series leave 64 bits together.
    """
    panel = _Panel.of(feature_set, grid, ledgers, OriginAxis.of(grid, zone, cutoff), (zone, cutoff), series_per_block)
    if workers == 1:
        yield from map(panel.block, range(panel.n_blocks))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="panel") as pool:
        numbers = iter(range(panel.n_blocks))
        waiting: deque[Future[PanelBlock]] = deque()
        for number in numbers:
            waiting.append(pool.submit(panel.block, number))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True, eq=False)
class _Panel:
    """What all blocks share."""

    feature_set: FeatureSet
    series: pl.DataFrame
    axis: OriginAxis
    clocks: tuple[str, time]
    parts: Mapping[str, BlockLedgers]
    size: int

    @classmethod
    def of(
        cls,
        feature_set: FeatureSet,
        grid: PanelGrid,
        ledgers: Mapping[str, LedgerFrame],
        axis: OriginAxis,
        clocks: tuple[str, time],
        size: int,
    ) -> _Panel:
        """The panel, once everything has the columns and types that are needed."""
        entity = feature_set.entity
        missing = [c for c in entity if c not in grid.series.columns]
        if missing:
            raise OutOfRange("the grid lacks columns", feature_set=feature_set.name, columns=missing)
        series = grid.series.select(entity).sort(*entity)
        if series.is_duplicated().any():
            raise OutOfRange("a panel names a series twice", series=series.filter(series.is_duplicated()).row(0))
        check_ledgers(feature_set, ledgers, series)
        parts: dict[str, BlockLedgers] = {}
        for name in dict.fromkeys(f.source for f in feature_set.features if f.source is not None):
            source = feature_set.source(name)
            ledger, columns = declared_ledger(ledgers[name], source), ledger_columns(feature_set, source)
            parts[name] = BlockLedgers(ledger, columns, entity, series, size)
        return cls(feature_set, series, axis, clocks, parts, size)

    @property
    def n_blocks(self) -> int:
        return -(-self.series.height // self.size)

    def block(self, number: int) -> PanelBlock:
        """The block of a number; each is made once."""
        series = self.series[number * self.size : (number + 1) * self.size]
        found: dict[str, PanelValues] = {}
        for name, part in self.parts.items():
            found |= self._of_source(name, part.block(number), series)
        for feature in self.feature_set.features:
            if feature.aggregation == "ratio":
                found[feature.name] = _ratio_of(found[str(feature.numerator)], found[str(feature.denominator_feature)])
        if len(self.axis) != len(self.axis.asked) or np.any(np.diff(self.axis.asked) != 1):
            found = {name: values.at_origins(self.axis.asked) for name, values in found.items()}
        return PanelBlock(series, self.axis.as_of, {name: found[name] for name in self.feature_set.feature_names})

    def _of_source(self, name: str, ledger: pl.DataFrame, series: pl.DataFrame) -> dict[str, PanelValues]:
        source, entity = self.feature_set.source(name), self.feature_set.entity
        check_clocks(ledger, name, entity)
        found: dict[str, PanelValues] = {}
        sparse = [f for f in self.feature_set.features if f.source == name and f.aggregation == "last"]
        for measure, features in measures_of(self.feature_set).items():
            if measure.source != name:
                continue
            rows = measure_rows(ledger, source, measure, posted_statistics(features), self.axis.calendar)
            check_bounds(rows, ledger, measure, entity)
            evaluated = PanelMeasure(self.axis, series.height, rows, features)
            sparse += [f for f in features if f.name in evaluated.beyond]
            found |= {f.name: evaluated.values(f) for f in features if f.name not in evaluated.beyond}
        return found | (self._by_rows(name, ledger, series, sparse) if sparse else {})

    def _by_rows(
        self, name: str, ledger: pl.DataFrame, series: pl.DataFrame, features: Sequence[FeatureDefinition]
    ) -> dict[str, PanelValues]:
        """Features in the sparse form, over a row per (series, origin)."""
        spine = panel_spine(series, self.axis.instants)
        asked = replace(self.feature_set, features=tuple(features))
        rows = evaluate(asked, spine, {name: ledger}, *self.clocks)
        shape = (series.height, len(self.axis))
        return {feature.name: _planes_of(rows[feature.name], shape) for feature in features}


def _planes_of(column: pl.Series, shape: tuple[int, int]) -> PanelValues:
    """A column of rows, origins within series, as an array."""
    is_null = column.is_null().to_numpy().reshape(shape) if column.null_count() else None
    values = column
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        # Integers with nulls would become floats.
        values = column.to_physical().fill_null(strategy="zero")
    return PanelValues(values.to_numpy().reshape(shape), is_null, column.dtype)


def _ratio_of(numerator: PanelValues, denominator: PanelValues) -> PanelValues:
    is_null = denominator.values == 0
    for part in (numerator, denominator):
        if part.is_null is not None:
            is_null |= part.is_null
    above, below = (part.values.astype(np.float64) for part in (numerator, denominator))
    quotient = np.divide(above, below, out=np.zeros_like(above), where=~is_null)
    return PanelValues(quotient, is_null if is_null.any() else None, pl.Float64)
