"""What goes wrong in the built-in retailer's files on purpose: broken rows, repeats, an absurd sale, a silent store."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from replenish.outcomes.retailer_plan import Draw, RetailerPlan, draw_stream
from replenish.outcomes.retailer_records import RECORDED_DAY, SECONDS_PER_DAY, local_times
from replenish.outcomes.retailer_sales import SaleLines, join_lines

TEXT_SHARE = 1 / 4_000
REPEATED_SHARE = 1 / 5_000
N_NEGATIVE_PRICES = 3
ABSURD_FACTOR = 1_000
SILENT_DAYS = 3
BROKEN_RECEIPT_OFFSET = 80_000
"""Broken rows carry receipt numbers that no true row has."""


@dataclass(frozen=True)
class PlantedFaults:
    """What was planted: numbers of rows in the files of the origin, and where the two special events lie."""

    n_text_quantities: int = 0
    n_negative_prices: int = 0
    n_repeated_rows: int = 0
    absurd_sku_id: str | None = None
    absurd_location_id: str | None = None
    silent_location_id: str | None = None


def make_absurd(plan: RetailerPlan, lines: SaleLines) -> tuple[SaleLines, tuple[int, int] | None]:
    """The lines of the last day, one of them a thousand times too large until it is corrected the next morning.

    Takes the largest line of the first location that is recorded on time and once; also returns its (location, sku).
    """
    key = np.stack([lines.location, lines.receipt, lines.line])
    _, inverse, counts = np.unique(key, axis=1, return_inverse=True, return_counts=True)
    on_time = lines.recorded <= plan.n_days * SECONDS_PER_DAY
    fit = np.flatnonzero((lines.location == 0) & on_time & (counts[inverse] == 1) & ~lines.is_retraction)
    if len(fit) == 0:
        return lines, None
    row = fit[np.argmax(lines.units[fit])]
    wrong = lines.units.copy()
    wrong[row] *= ABSURD_FACTOR
    mended = lines.take(np.array([row]))
    mended = replace(mended, recorded=np.array([plan.n_days * SECONDS_PER_DAY + 9 * 3600]))
    return join_lines([replace(lines, units=wrong), mended]), (0, int(lines.sku[row]))


def silence_counts(plan: RetailerPlan, counts: pl.DataFrame, location_id: str) -> pl.DataFrame:
    """The stock counts with one location's last days before the origin held back until the morning after."""
    first, end = plan.n_days - SILENT_DAYS, plan.n_days
    back = local_times(np.array([end * SECONDS_PER_DAY + 10 * 3600]), plan.first_date)[0]
    is_silent = (pl.col("store") == location_id) & pl.col(RECORDED_DAY).is_between(first, end - 1)
    return counts.with_columns(
        recorded_at=pl.when(is_silent).then(pl.lit(back)).otherwise("recorded_at"),
        **{RECORDED_DAY: pl.when(is_silent).then(end).otherwise(RECORDED_DAY)},
    ).unique(["store", "article", "counted_at", "recorded_at"], keep="last", maintain_order=True)


def break_sales(plan: RetailerPlan, sales: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """The sales with broken copies (text for a quantity) and repeated rows added; how many of each, at least one.

    Only rows known at the origin are copied, so that the counts are those of the files written for it.
    """
    rng = draw_stream(plan.seed, Draw.FAULTS)
    fit = np.flatnonzero((sales[RECORDED_DAY].to_numpy() < plan.n_days) & (sales["op"] == "I").to_numpy())
    n_broken, n_repeated = (min(max(round(len(fit) * c), 1), len(fit)) for c in (TEXT_SHARE, REPEATED_SHARE))
    number = pl.col("receipt").str.split("-").list.last().cast(pl.Int64) + BROKEN_RECEIPT_OFFSET
    broken = sales[np.sort(rng.choice(fit, n_broken, replace=False))].with_columns(
        qty=pl.lit("two"), receipt=pl.col("store") + "-" + number.cast(pl.String).str.zfill(8)
    )
    repeated = sales[np.sort(rng.choice(fit, n_repeated, replace=False))]
    return pl.concat([sales, broken, repeated]), n_broken, n_repeated


def break_prices(plan: RetailerPlan, prices: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The prices with a few negative copies of rows in monthly files (large enough to bear them), and their count."""
    rows = np.flatnonzero(prices[RECORDED_DAY].to_numpy() < plan.first_daily_file_day)
    chosen = draw_stream(plan.seed, Draw.FAULTS, 1).choice(rows, min(N_NEGATIVE_PRICES, len(rows)), replace=False)
    broken = prices[np.sort(chosen)].with_columns(price=pl.lit("-") + pl.col("price"))
    return pl.concat([prices, broken]), broken.height
