"""Pictures in asset metadata: PNG inside markdown, so that they show wherever Dagster shows metadata.

matplotlib is imported when a picture is drawn, never when definitions load.
"""

import base64
import io
from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

N_FANS = 4
"""Series shown in a fan: the largest ones; more would be too small to read."""
INK = "#30475e"
ACCENT = "#f05454"
"""Two colours that stay apart in print and for most colour-blind readers."""


def draw(n_columns: int, n_rows: int, paint: Callable[[list[Any]], None]) -> dg.MetadataValue:
    """A grid of axes painted by `paint`, as markdown with an embedded PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * n_columns, 2.6 * n_rows), dpi=80, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    paint([axis for row in axes for axis in row])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def forecast_fan(tables: Any, origin: date) -> dg.MetadataValue:
    """Mean and quantile band of the largest series of one origin."""
    return dg.MetadataValue.md("")


def backtest_plot(backtest: pl.DataFrame) -> dg.MetadataValue:
    """WAPE by step and method."""
    return dg.MetadataValue.md("")


def psi_bars(scores: pl.DataFrame, origin: date) -> dg.MetadataValue:
    """Drift scores of one origin beside their thresholds."""
    return dg.MetadataValue.md("")


def stock_trajectory() -> dg.MetadataValue:
    """Stock of a few series by day."""
    return dg.MetadataValue.md("")
