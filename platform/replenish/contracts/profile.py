"""Forecast profiles: what is forecast, from which features, with how much effort.

A profile is a file in `platform/policies/forecast/`, read strictly: a missing, unknown or ill-typed field is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path

import yaml

from replenish.errors import ContractError, OutOfRange

PROFILE_FOLDER = Path(__file__).resolve().parents[2] / "policies" / "forecast"

PERIOD_ANCHOR = date(1970, 1, 5)
"""Start of period 0: a Monday, so that weekly periods run from Monday to Sunday."""

FEATURE_DEFINITIONS_VERSION = 2
"""Raised whenever a feature of the same name gets another meaning, so that its feature-set id changes."""


@dataclass(frozen=True)
class ForecastProfile:
    """One way to forecast. A *period* is `period_days` long; lags, windows and steps count periods."""

    name: str
    description: str
    period_days: int
    """1 (a day) or 7 (a week from Monday)."""
    horizon_steps: int
    season_length: int
    """Periods of one season: the seasonal naive repeats the value of this many periods ago."""
    lags: tuple[int, ...]
    windows: tuple[int, ...]
    quantile_levels: tuple[float, ...]
    blocks: tuple[tuple[int, int], ...]
    """Steps that share one model, first and last inclusive; together they cover 1..horizon_steps."""
    min_history: int
    """Periods since its first sale that a series needs to be trained on."""
    max_series: int | None
    """Forecast only this many series, those with most units known at the first backtest origin; None = all."""
    train_origin_stride: int
    """Train on every n-th origin, counted back from the newest."""
    n_backtest_origins: int
    backtest_stride: int
    """Periods between backtest origins."""
    holidays: str | None
    """Holiday calendar of the market (`us`); None = no holidays are known."""
    lightgbm: Mapping[str, int | float | str | bool]
    """Parameters passed on to LightGBM, over the platform's own."""
    seeds: tuple[int, ...]

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """The features of this profile, in table order; `features.demand` says what each one is."""
        per_window = (
            *("units_sum", "units_mean", "units_sd", "active_periods", "unit_revenue_cents"),
            *("in_stock_units", "in_stock_days", "in_stock_mean"),
            *("unconstrained_milli_sum", "lost_milli_sum"),
        )
        return (
            *(f"units_lag_{n}" for n in self.lags),
            *("periods_since_first_sale", "periods_since_last_sale"),
            *(f"{name}__{w}" for name in per_window for w in self.windows),
            *("price_cents", f"price_ratio__{self.price_window}", "is_promotion"),
            *("lead_time_n_lines", "lead_time_mean_days", "lead_time_sd_days"),
            *("day_of_week", "day_of_month", "day_of_year", "week_of_year", "month"),
        )

    @property
    def price_window(self) -> int:
        """Periods over which a price is averaged: four weeks, long enough for a promotion and what came before."""
        return 28 // self.period_days

    @property
    def feature_set_id(self) -> str:
        """sha256 of the canonical feature definitions: equal ids mean equal columns with equal meaning."""
        definitions = {
            "version": FEATURE_DEFINITIONS_VERSION,
            "period_days": self.period_days,
            "columns": self.feature_columns,
        }
        return hashlib.sha256(json.dumps(definitions, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def period_index(self, day: date) -> int:
        """Number of the period that a date lies in, counted from the anchor.

        >>> read_profile("weekly").period_index(date(1970, 1, 12))
        1
        """
        return (day - PERIOD_ANCHOR).days // self.period_days

    def period_start(self, index: int) -> date:
        """First date of a period; also the origin date that knows all of the period before."""
        return PERIOD_ANCHOR + timedelta(days=index * self.period_days)

    def origin_at_or_before(self, day: date) -> date:
        """The newest origin date of this profile that is not later than a date."""
        return self.period_start(self.period_index(day))

    def target_date(self, origin: date, step: int) -> date:
        """First date of the period that a step forecasts: step 1 is the period that starts at the origin."""
        return origin + timedelta(days=(step - 1) * self.period_days)

    def backtest_origins(self, newest: date) -> tuple[date, ...]:
        """Origins of the backtest, ascending; the last one lies a whole horizon before the newest origin."""
        last = self.period_index(newest) - self.horizon_steps
        steps_back = range(self.n_backtest_origins - 1, -1, -1)
        return tuple(self.period_start(last - n * self.backtest_stride) for n in steps_back)


def read_profile(name: str, folder: Path = PROFILE_FOLDER) -> ForecastProfile:
    """The profile of this name.

    Raises:
        ContractError: No such file, or a field is missing, unknown, ill-typed or out of range.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ContractError("no such forecast profile", name=name, known=known)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ContractError(f"not a YAML file: {error}", file=path.name) from error
    if not isinstance(loaded, dict):
        raise ContractError("a profile is a mapping of fields", file=path.name)
    return parse_profile({"name": name, **loaded}, path.name)


def parse_profile(loaded: Mapping[str, object], file: str) -> ForecastProfile:
    """A profile from its loaded fields; `file` names the source in errors (see `read_profile`)."""
    names = {f.name for f in fields(ForecastProfile)}
    wrong = [f"{n} is unknown" for n in sorted(set(loaded) - names)]
    wrong += [f"{n} is missing" for n in sorted(names - set(loaded))]
    if wrong:
        raise ContractError("; ".join(wrong), file=file)
    integers = ("horizon_steps", "season_length", "min_history", "train_origin_stride", "n_backtest_origins")
    try:
        profile = ForecastProfile(
            name=_text(loaded["name"], "name"),
            description=_text(loaded["description"], "description"),
            period_days=_integer(loaded["period_days"], "period_days"),
            **{n: _integer(loaded[n], n) for n in (*integers, "backtest_stride")},
            lags=_integers(loaded["lags"], "lags"),
            windows=_integers(loaded["windows"], "windows"),
            quantile_levels=tuple(
                _number(q, "quantile_levels") for q in _items(loaded["quantile_levels"], "quantile_levels")
            ),
            blocks=tuple(_block(b) for b in _items(loaded["blocks"], "blocks")),
            max_series=None if loaded["max_series"] is None else _integer(loaded["max_series"], "max_series"),
            holidays=None if loaded["holidays"] is None else _text(loaded["holidays"], "holidays"),
            lightgbm=_parameters(loaded["lightgbm"]),
            seeds=_integers(loaded["seeds"], "seeds", minimum=0),
        )
        _check_ranges(profile)
    except OutOfRange as error:
        raise ContractError(str(error), file=file) from error
    return profile


def _check_ranges(profile: ForecastProfile) -> None:
    """Raise OutOfRange where fields contradict their meaning or one another."""
    if profile.period_days not in (1, 7):
        raise OutOfRange("period_days is 1 or 7", period_days=profile.period_days)
    for name in ("lags", "windows"):
        values = getattr(profile, name)
        if list(values) != sorted(set(values)):
            raise OutOfRange(f"{name} ascend without repeats", values=values)
    levels = profile.quantile_levels
    if not levels or list(levels) != sorted(set(levels)) or not 0 < levels[0] <= levels[-1] < 1:
        raise OutOfRange("quantile_levels ascend within (0, 1)", quantile_levels=levels)
    next_step = 1
    for first, last in profile.blocks:
        if first != next_step or last < first:
            raise OutOfRange("blocks follow one another from step 1", blocks=profile.blocks)
        next_step = last + 1
    if next_step != profile.horizon_steps + 1:
        raise OutOfRange("blocks end at horizon_steps", blocks=profile.blocks)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise OutOfRange(f"{name} is a text", value=value)
    return value


def _integer(value: object, name: str, minimum: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise OutOfRange(f"{name} is an integer of at least {minimum}", value=value)
    return value


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise OutOfRange(f"{name} is a number", value=value)
    return float(value)


def _items(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise OutOfRange(f"{name} is a list", value=value)
    return value


def _integers(value: object, name: str, minimum: int = 1) -> tuple[int, ...]:
    return tuple(_integer(v, name, minimum) for v in _items(value, name))


def _block(value: object) -> tuple[int, int]:
    steps = _integers(value, "blocks")
    if len(steps) != 2:
        raise OutOfRange("a block is [first step, last step]", value=value)
    return steps[0], steps[1]


def _parameters(value: object) -> dict[str, int | float | str | bool]:
    if not isinstance(value, dict):
        raise OutOfRange("lightgbm is a mapping of parameters", value=value)
    for name, parameter in value.items():
        if not isinstance(name, str) or not isinstance(parameter, int | float | str | bool):
            raise OutOfRange("a lightgbm parameter is a number, text or boolean", name=name, value=parameter)
    return dict(value)
