"""Champion and challenger: a new model is trained, judged on a common window and promoted or refused, on record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable, OutOfRange, StoreError
from replenish.forecast.backtest import BACKTEST_TABLE, OUR_METHOD
from replenish.forecast.backtest_scores import mean_pinball
from replenish.forecast.baseline_paths import SEASONAL_NAIVE
from replenish.forecast.inputs import ForecastInputs, read_inputs
from replenish.forecast.model_paths import model_forecasts
from replenish.forecast.panel import SERIES_KEY
from replenish.forecast.train import ModelCard, card_from_json, train_model
from replenish.stores.lake import DeltaLake
from replenish.stores.registry import ModelRegistry, StoredModel


@dataclass(frozen=True)
class ChallengerVerdict:
    """Whether the challenger may become champion, and the two losses compared (pinball [units] or relative)."""

    is_promoted: bool
    reason: str
    challenger_loss: float | None = None
    champion_loss: float | None = None


@dataclass(frozen=True)
class ChallengerCard:
    """A stored challenger: digest, what it was trained on and how it was judged."""

    digest: str
    model: ModelCard
    backtest: dict[str, Any]
    verdict: ChallengerVerdict

    def as_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return {
            "digest": self.digest,
            "model": self.model.as_json(),
            "backtest": self.backtest,
            "is_promoted": self.verdict.is_promoted,
            "reason": self.verdict.reason,
        }


def train_challenger(
    lake: DeltaLake,
    registry: ModelRegistry,
    dataset: Dataset,
    profile: ForecastProfile,
    origin: date,
    *,
    num_threads: int = 1,
) -> ChallengerCard:
    """Train on what is known at the origin, store the model, and promote it where the backtest says it is no worse.

    Training the same origin again gives the same digest and changes nothing.

    Raises:
        NotApplicable: Nothing to train on yet.
    """
    anchor = profile.origin_at_or_before(origin)
    inputs = read_inputs(lake, profile)
    try:
        model = train_model(inputs, profile, anchor, num_threads=num_threads)
    except OutOfRange as error:
        raise NotApplicable(f"no model yet: {error}", dataset=dataset.dataset_id, origin=origin) from error
    rows = lake.read(BACKTEST_TABLE) if lake.has(BACKTEST_TABLE) else pl.DataFrame()
    backtest = _backtest_figures(rows, profile)
    digest = registry.save_model(model.files, {"model": model.card.as_json(), "backtest": backtest})
    champion = registry.champion()
    if champion == digest:
        return ChallengerCard(digest, model.card, backtest, ChallengerVerdict(True, "already champion"))
    verdict = judge_challenger(_load_champion(registry), backtest, rows, inputs, profile)
    decide = registry.promote if verdict.is_promoted else registry.refuse
    decide(digest, reason=verdict.reason, decided_at=origin.isoformat())
    return ChallengerCard(digest, model.card, backtest, verdict)


def judge_challenger(
    champion: StoredModel | None,
    backtest: dict[str, Any],
    rows: pl.DataFrame,
    inputs: ForecastInputs,
    profile: ForecastProfile,
) -> ChallengerVerdict:
    """Promote where the challenger's backtest pinball is not above the champion's on the same window.

    The window is the backtest origins at or after the champion's training, where both are out of sample. Where there
    are none yet, the two backtests are compared by their ratio to seasonal naive.
    """
    if champion is None:
        return ChallengerVerdict(True, "no usable champion")
    if champion.card["model"]["feature_set_id"] != profile.feature_set_id:
        return ChallengerVerdict(True, "the champion knows another feature set")
    if not backtest:
        return ChallengerVerdict(False, "no backtest speaks for the challenger")
    trained_at = date.fromisoformat(champion.card["model"]["trained_at"])
    common = rows.filter((pl.col("method") == OUR_METHOD) & (pl.col("origin_date") >= trained_at))
    if common.is_empty():
        theirs = champion.card["backtest"].get("ratio_to_seasonal_naive", math.inf)
        return _verdict(backtest["ratio_to_seasonal_naive"], theirs, "pinball relative to seasonal naive")
    window = inputs.features.filter(pl.col("origin_date").is_in(common["origin_date"].unique().to_list()))
    theirs = model_forecasts(champion.files, card_from_json(champion.card["model"]), inputs, window, profile)
    scored = theirs.join(
        common.select("origin_date", *SERIES_KEY, "step", "actual_units", "is_censored"),
        on=["origin_date", *SERIES_KEY, "step"],
    ).filter(~pl.col("is_censored"))
    ours = common.filter(~pl.col("is_censored"))
    return _verdict(mean_pinball(ours, profile), mean_pinball(scored, profile), "pinball on the same window")


def _verdict(challenger: float, champion: float, basis: str) -> ChallengerVerdict:
    is_promoted = challenger <= champion
    words = "not worse" if is_promoted else "worse"
    return ChallengerVerdict(
        is_promoted, f"{basis}: {challenger:.4f} is {words} than {champion:.4f}", challenger, champion
    )


def _backtest_figures(rows: pl.DataFrame, profile: ForecastProfile) -> dict[str, Any]:
    """Pinball of the backtest and its ratio to seasonal naive, with the window; empty without a backtest."""
    if rows.is_empty():
        return {}
    usable = rows.filter(~pl.col("is_censored"))
    ours = mean_pinball(usable.filter(pl.col("method") == OUR_METHOD), profile)
    naive = mean_pinball(usable.filter(pl.col("method") == SEASONAL_NAIVE), profile)
    first, last = rows["origin_date"].min(), rows["origin_date"].max()
    return {
        "pinball_units": ours,
        "ratio_to_seasonal_naive": ours / naive if naive > 0 else 1.0,
        "first_origin": str(first),
        "last_origin": str(last),
    }


def _load_champion(registry: ModelRegistry) -> StoredModel | None:
    digest = registry.champion()
    if digest is None:
        return None
    try:
        return registry.load_model(digest)
    except StoreError:
        # A damaged champion cannot defend its place.
        return None
