"""LightGBM models of horizon blocks: one mean and one model per quantile level and block, as normalised text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replenish.contracts.profile import ForecastProfile
from replenish.errors import OutOfRange

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

MEAN = "mean"
SAME_WEEKDAY = "same_weekday_mean"
"""Column of the design matrix; only daily profiles have it."""

FIXED_PARAMETERS: dict[str, Any] = {
    "deterministic": True,
    # Column-wise histograms add up in one order for every thread count; row-wise ones do not.
    "force_col_wise": True,
    "feature_pre_filter": False,
    "verbosity": -1,
}

_THREADS = re.compile(r"\[num_threads: \d+\]")


@dataclass(frozen=True)
class BlockRows:
    """Training rows of one block: matrix (n_rows, n_columns), target and weight (n_rows,), both free of scale."""

    matrix: Float32Array
    names: tuple[str, ...]
    target: FloatArray
    weight: FloatArray


def model_file(block: tuple[int, int], target: str, seed: int) -> str:
    """File name of one model text.

    >>> model_file((1, 7), "q0.9", 1)
    'steps_01_07__q0.9__seed_1.txt'
    """
    return f"steps_{block[0]:02d}_{block[1]:02d}__{target}__seed_{seed}.txt"


def model_targets(profile: ForecastProfile) -> tuple[str, ...]:
    """What each block has a model for: the mean, then each quantile level."""
    return (MEAN, *(f"q{level:g}" for level in profile.quantile_levels))


def fit_block(rows: BlockRows, block: tuple[int, int], profile: ForecastProfile, *, num_threads: int) -> dict[str, str]:
    """Model texts of one block by file name; equal rows give equal texts for any number of threads.

    Raises:
        OutOfRange: No training rows.
    """
    import lightgbm as lgb

    if rows.target.size == 0:
        raise OutOfRange("no training rows in this block", block=block)
    shared = {**FIXED_PARAMETERS, **profile.lightgbm, "num_threads": num_threads}
    rounds = int(shared.pop("num_iterations", 100))
    data = lgb.Dataset(
        rows.matrix,
        label=rows.target,
        weight=rows.weight,
        feature_name=list(rows.names),
        params=dict(shared, seed=profile.seeds[0]),
        free_raw_data=False,
    )
    texts: dict[str, str] = {}
    for target in model_targets(profile):
        start = starting_point(rows.matrix, rows.names) if target == MEAN else 0.0
        data.set_label(rows.target - start)
        for seed in profile.seeds:
            booster = lgb.train({**shared, **_objective(target), "seed": seed}, data, num_boost_round=rounds)
            texts[model_file(block, target, seed)] = _THREADS.sub("[num_threads: 0]", booster.model_to_string())
    return texts


def predict_blocks(
    files: Mapping[str, str],
    matrices: Mapping[tuple[int, int], Float32Array],
    names: Sequence[str],
    profile: ForecastProfile,
) -> dict[str, FloatArray]:
    """Forecasts by target, still divided by scale; seeds are averaged, steps outermost as in the design matrices.

    Args:
        files: Verified model texts by file name.
        matrices: Design matrix by block, covering the profile's blocks in order.
        names: Columns of the matrices.
    """
    import lightgbm as lgb

    result: dict[str, FloatArray] = {}
    for target in model_targets(profile):
        parts = []
        for block in profile.blocks:
            votes = [
                lgb.Booster(model_str=files[model_file(block, target, seed)]).predict(matrices[block], num_threads=1)
                for seed in profile.seeds
            ]
            start = starting_point(matrices[block], names) if target == MEAN else 0.0
            parts.append(np.mean(np.asarray(votes, dtype=np.float64), axis=0) + start)
        result[target] = np.concatenate(parts)
    return result


def starting_point(matrix: Float32Array, names: Sequence[str]) -> FloatArray:
    """What the model of the mean corrects: the mean of recent equal weekdays, or the scale itself where there is none.

    Trees approximate a proportional relation in steps; starting from it leaves them the differences. Shape (n_rows,).
    """
    if SAME_WEEKDAY not in names:
        return np.ones(matrix.shape[0])
    usual = matrix[:, list(names).index(SAME_WEEKDAY)].astype(np.float64)
    return np.where(np.isfinite(usual), usual, 1.0)


def n_fits(profile: ForecastProfile, n_trainings: int) -> int:
    """Models fitted by this many trainings."""
    return n_trainings * len(profile.blocks) * len(model_targets(profile)) * len(profile.seeds)


def rising_quantiles(quantiles: Sequence[FloatArray]) -> FloatArray:
    """Quantiles as the last axis, not negative and not crossing.

    Source: Chernozhukov, Fernandez-Val and Galichon, Quantile and probability curves without crossing, Econometrica 78
    (2010): sorting never makes the estimate worse.
    """
    return np.sort(np.maximum(np.stack(quantiles, axis=-1), 0.0), axis=-1)


def _objective(target: str) -> dict[str, Any]:
    if target == MEAN:
        # A log link (poisson, tweedie) can run away on bursts of wholesale orders.
        return {"objective": "l2"}
    return {"objective": "quantile", "alpha": float(target[1:])}
