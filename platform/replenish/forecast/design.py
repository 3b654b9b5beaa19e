"""Model rows: one feature row and one step ahead become one row of numbers, free of the size of the series.

Everything in units is divided by the series' scale at the origin, so that one model serves large and small series.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.forecast.holidays import holiday_columns
from replenish.forecast.panel import SERIES_KEY
from replenish.forecast.planned_prices import planned_prices
from replenish.forecast.plausible import implausible_lags
from replenish.units import MILLI

FloatArray = npt.NDArray[np.float64]

SCALE_WINDOW_DAYS = 28
"""The scale is the mean of the last four weeks: short enough to follow a trend, long enough to be calm."""

DAYS_PER_YEAR = 364
"""A year in whole weeks, so that last year's value has the same weekday."""

_LAG = re.compile(r"units_lag_(\d+)")
_WINDOW = re.compile(r"(units_sum|units_sd|active_periods|in_stock_units|unconstrained_milli_sum)__(\d+)")
_ESTIMATED = "unconstrained_milli_sum"


@dataclass(frozen=True)
class FeatureRows:
    """Rows of `features/feat_demand` in canonical order with what all their steps share.

    `frame`: sorted by (origin_date, sku_id, location_id); `scale`: units per period, > 0, shape (n_rows,).
    """

    frame: pl.DataFrame
    scale: FloatArray
    static: FloatArray
    static_names: tuple[str, ...]
    lags: dict[int, FloatArray]
    month_days: FloatArray | None = None
    """Shape (n_rows, 31), see `month_days`; None where the profile's periods are no days."""


def prepare_rows(features: pl.DataFrame, profile: ForecastProfile, category_codes: pl.DataFrame) -> FeatureRows:
    """Feature rows with their scale and the scaled columns that do not depend on the step.

    Args:
        features: `features/feat_demand`; columns of other sets are ignored, missing ones are left out.
        profile: Names the windows and lags.
        category_codes: `sku_id, location_id, category_code, location_code`: small integers stored with the model.
    """
    frame = _plausible(features.sort("origin_date", *SERIES_KEY), profile)
    scale = _scale(frame, profile)
    lags = {int(m[1]): _column(frame, c) / scale for c in frame.columns if (m := _LAG.fullmatch(c))}
    columns: dict[str, FloatArray] = {"log_scale": np.log(scale)}
    for name in sorted(frame.columns):
        # Where nobody counts stock, nothing is estimated: a column of nulls would only blur the choice of columns.
        if (match := _WINDOW.fullmatch(name)) and not (
            match[1] == _ESTIMATED and frame[name].null_count() == frame.height
        ):
            columns[name] = _window_column(frame, match[1], int(match[2]), scale, profile.period_days)
    for name in ("price_ratio__28", "price_cents"):
        if name in frame.columns:
            columns[name] = _column(frame, name)
    coded = frame.select(SERIES_KEY).join(category_codes, on=SERIES_KEY, how="left", maintain_order="left")
    for name in ("category_code", "location_code"):
        columns[name] = _column(coded, name)
    for lag in sorted(lags)[: 7 if profile.period_days == 1 else 13]:
        columns[f"lag_{lag:02d}"] = lags[lag]
    return FeatureRows(frame, scale, np.column_stack(list(columns.values())), tuple(columns), lags)


def _plausible(frame: pl.DataFrame, profile: ForecastProfile) -> pl.DataFrame:
    """The frame with implausible lags unknown and taken out of the sums, and with no spread where there was one."""
    numbers = sorted(int(m[1]) for c in frame.columns if (m := _LAG.fullmatch(c)))
    lags = np.column_stack([_column(frame, f"units_lag_{n}") for n in numbers])
    is_wrong = implausible_lags(lags, profile.period_days)
    if not is_wrong.any():
        return frame
    changed = [
        pl.when(pl.Series(~is_wrong[:, place])).then(pl.col(f"units_lag_{n}")).alias(f"units_lag_{n}")
        for place, n in enumerate(numbers)
    ]
    for name in frame.columns:
        if not (match := _WINDOW.fullmatch(name)) or match[1] == "active_periods":
            continue
        inside = is_wrong & (np.array(numbers) <= int(match[2]))
        if match[1] == "units_sd":
            changed.append(pl.when(pl.Series(~inside.any(axis=1))).then(pl.col(name)).alias(name))
        else:
            excess = pl.Series(np.where(inside, lags, 0.0).sum(axis=1).astype(np.int64))
            excess = excess * MILLI if match[1] == _ESTIMATED else excess
            changed.append((pl.col(name) - excess).clip(lower_bound=0).alias(name))
    return frame.with_columns(changed)


def build_design(
    rows: FeatureRows, steps: Sequence[int], profile: ForecastProfile, prices: pl.DataFrame | None
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """The model matrix of all rows at the given steps and its column names.

    Returns:
        Shape (n_steps * n_rows, n_columns), steps outermost; NaN means unknown.
    """
    price, promotion = planned_prices(prices, rows.frame, steps, profile.period_days)
    origin_price = _column(rows.frame, "price_cents") if "price_cents" in rows.frame.columns else price[:, 0]
    parts = []
    names: tuple[str, ...] = ()
    for place, step in enumerate(steps):
        columns = {"step": np.full(rows.scale.size, float(step))}
        columns |= _season_picks(rows, step, profile.period_days)
        columns |= _calendar(rows.frame["origin_date"], step, profile)
        if rows.month_days is not None:
            month_day = columns["target_month_day"].astype(np.int64) - 1
            columns["month_day_index"] = rows.month_days[np.arange(rows.scale.size), month_day]
        with np.errstate(invalid="ignore", divide="ignore"):
            columns["planned_price_ratio"] = np.where(origin_price > 0, price[:, place] / origin_price, np.nan)
        columns["is_planned_promotion"] = promotion[:, place]
        parts.append(np.column_stack([*columns.values(), rows.static]).astype(np.float32))
        names = (*columns, *rows.static_names)
    return np.concatenate(parts), names


def _season_picks(rows: FeatureRows, step: int, period_days: int) -> dict[str, FloatArray]:
    """Lags that fall on the target's weekday, nearest first, and those of a year before the target."""
    cycle = 7 if period_days == 1 else 1
    nearest = cycle - (step - 1) % cycle
    missing = np.full(rows.scale.size, np.nan)
    picks = [rows.lags[lag] for j in range(8) if (lag := nearest + j * cycle) in rows.lags] if cycle > 1 else []
    columns = {f"same_weekday_{n + 1}": picks[n] if n < len(picks) else missing for n in range(4 if cycle > 1 else 0)}
    if picks:
        columns["same_weekday_mean"] = _mean_known(np.column_stack(picks))
    year = DAYS_PER_YEAR // period_days
    for n in (-1, 0, 1):
        columns[f"last_year_{n + 1}"] = rows.lags.get(year - (step - 1) + n * cycle, missing)
    reach = 3 if cycle > 1 else 1
    columns["last_year_mean"] = _mean_of_lags(rows, range(year - step + 1 - reach, year - step + 2 + reach), missing)
    # The level that last year's values stand against: the weeks before them, or the four weeks they lie in.
    level = range(year + 1, year + 5) if cycle == 1 else range(year - 27, year + 1)
    columns["last_year_level"] = _mean_of_lags(rows, level, missing)
    # A holiday that keeps its weekday shows as last year's day against the same weekdays around it.
    nearby = range((year - step + 1) % cycle + year - 35, year + 1, cycle) if cycle > 1 else level
    usual = _mean_of_lags(rows, nearby, missing)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns["last_year_relative"] = np.where(usual > 0, columns["last_year_1"] / usual, np.nan)
    return columns


def _mean_of_lags(rows: FeatureRows, lags: range, missing: FloatArray) -> FloatArray:
    known = [rows.lags[lag] for lag in lags if lag in rows.lags]
    return _mean_known(np.column_stack(known)) if known else missing


def _calendar(origins: pl.Series, step: int, profile: ForecastProfile) -> dict[str, FloatArray]:
    period_days = profile.period_days
    ahead = timedelta(days=(step - 1) * period_days)
    target = origins + ahead
    # A week belongs to the month and year day of its middle, so that Christmas falls into one and the same week number.
    middle = target + timedelta(days=period_days // 2)
    columns = {
        "target_month": middle.dt.month(),
        "target_year_day": middle.dt.ordinal_day(),
        "target_month_day": middle.dt.day(),
    }
    if period_days == 1:
        columns["target_weekday"] = target.dt.weekday()
    holidays = {} if profile.holidays is None else holiday_columns(profile.holidays, middle)
    numbers = {n: c.cast(pl.Float64).to_numpy() for n, c in columns.items()}
    return numbers | {"days_to_christmas": _days_to_christmas(middle)} | holidays


def _days_to_christmas(days: pl.Series) -> FloatArray:
    """Days until the next 25 December, the one fixed date on which trade stops in most markets."""

    def until(day: date) -> int:
        return (date(day.year + (day.month == 12 and day.day > 25), 12, 25) - day).days

    distinct = {day: float(until(day)) for day in days.unique().to_list()}
    return np.array([distinct[day] for day in days.to_list()])


def _scale(frame: pl.DataFrame, profile: ForecastProfile) -> FloatArray:
    """Mean demand per in-stock period; one unit and one period are added so that it is never zero."""
    window = max(SCALE_WINDOW_DAYS // profile.period_days, 1)
    window = window if window in profile.windows else min(profile.windows, key=lambda w: abs(w - window))
    total, length = f"units_sum__{window}", float(window)
    units = np.nan_to_num(_column(frame, total)) if total in frame.columns else np.zeros(frame.height)
    plain = (units + 1.0) / (length + 1.0)
    if f"in_stock_days__{window}" not in frame.columns:
        return plain
    days = np.nan_to_num(_column(frame, f"in_stock_days__{window}")) / profile.period_days
    sold = np.nan_to_num(_column(frame, f"in_stock_units__{window}"))
    return np.where(days >= length / 4, (sold + 1.0) / (days + 1.0), plain)


def _window_column(frame: pl.DataFrame, kind: str, window: int, scale: FloatArray, period_days: int) -> FloatArray:
    values = _column(frame, f"{kind}__{window}")
    if kind == "active_periods":
        return values / window
    if kind in ("units_sum", _ESTIMATED):
        return values / (window * scale * (MILLI if kind == _ESTIMATED else 1))
    if kind == "in_stock_units":
        days = _column(frame, f"in_stock_days__{window}") / period_days
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(days > 0, values / (days * scale), np.nan)
    return values / scale


def _mean_known(values: FloatArray) -> FloatArray:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _column(frame: pl.DataFrame, name: str) -> FloatArray:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
