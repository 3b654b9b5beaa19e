"""How much leakage flatters: forecast errors with features joined by event time against features as known at the time.

A join by event time sees a row from the instant it speaks of, although it was recorded, corrected or taken back later.
Three errors on the same rows. *Promised*: trained and tested on such features, as a leaking backtest says. *Got*: the
model that this practice deploys, trained at the time on what was recorded by then and used on what is known when it is
used. *Known*: trained and used on what was known at each instant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal import origin_instant
from replenish.cli.demo import lay_out_retailer
from replenish.cli.deployment import open_deployment, prepare_deployment
from replenish.cli.leakage_features import demand_set, late_by_outages, lead_time_sets, received_lines
from replenish.cli.stages import build_gold_tables, run_to_silver
from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.evaluator import evaluate
from replenish.outcomes.retailer_plan import RetailerPlan

ARRIVAL = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON_DAYS = 7
FIRST_ORIGIN_DAY, STEP_DAYS = 120, 3
FOLD_QUANTILES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the rows in time: each fold trains on all before it and is tested up to the next."""
SEEDS = (1, 2, 3)
MODEL = {
    "objective": "regression_l1", "num_leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 40,
    "bagging_fraction": 0.8, "bagging_freq": 1, "deterministic": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
N_ROUNDS = 200

FloatArray = npt.NDArray[np.float64]
RowMask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LeakageCase:
    """Rows to forecast, and the ledger that their features are made from.

    Attributes:
        sets: Feature sets over the ledger, each by its own entity.
        spine: (rows) entity columns, `as_of`, `target` (units or days), `target_known` (when it was recorded) and
            `target_event` (when it would be known if things were known as they happen).
        ledger: Postings with `event_time`, `event_date` and `knowledge_time`.
        joined_by: Column of the ledger that the leaking join takes for the time of a row.
    """

    sets: tuple[FeatureSet, ...]
    spine: pl.DataFrame
    ledger: pl.DataFrame
    zone: str
    cutoff: time
    joined_by: str = "event_time"


def run_leakage_bench(scms: Path | None = None) -> dict[str, object]:
    """Mean absolute errors of each case, in units a week or days; lead times where the SCMS folder is there.

    Returns:
        By case: rows tested, `promised`, `got` and `known` errors, and `flattery`: 1 - promised / got.
    """
    figures: dict[str, object] = {}
    for what, share in (("retailer", 0.0), ("retailer, 20 % of store-days sent late", 0.2)):
        figures |= _figures(what, retailer_case(RetailerPlan(seed=7, with_faults=False), share))
    if scms is not None:
        for what, clock in (("order date", "ordered_at"), ("delivery date", "event_time")):
            figures |= _figures(f"SCMS lead times, joined by {what}", lead_time_case(scms, clock))
    return figures


def _figures(what: str, case: LeakageCase) -> dict[str, object]:
    n, errors = leakage_errors(case)
    promised, got, known = errors
    told = {"rows tested": n, "promised": promised, "got": got, "known": known, "flattery": 1 - promised / got}
    return {f"{what}: {name}": value for name, value in told.items()}


def leakage_errors(case: LeakageCase, seeds: Sequence[int] = SEEDS) -> tuple[int, tuple[float, float, float]]:
    """Rows tested, and the mean absolute errors promised, got and known, over all folds and seeds."""
    as_of, target = case.spine["as_of"], case.spine["target"].cast(pl.Float64).to_numpy()
    known, leaking = _features(case, case.ledger), _features(case, _by_event_time(case, case.ledger))
    ordered = as_of.sort()
    starts = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in FOLD_QUANTILES]
    sums, n = np.zeros(3), 0
    for start, end in pairwise(starts):
        tests = ((as_of >= start) & (as_of < end)).to_numpy()
        recorded = _features(case, _by_event_time(case, case.ledger.filter(pl.col("knowledge_time") < start)))
        happened = (case.spine["target_event"] < start).to_numpy()
        told = (case.spine["target_known"] < start).to_numpy()
        for seed in seeds:
            for nr, (rows, trained_on, used_on) in enumerate(
                [(happened, leaking, leaking), (told, recorded, known), (told, known, known)]
            ):
                model = _fitted(trained_on[rows], target[rows], seed)
                sums[nr] += np.abs(np.asarray(model.predict(used_on[tests])) - target[tests]).sum()
        n += int(tests.sum())
    promised, got, honest = (float(total) for total in sums / (n * len(seeds)))
    return n, (promised, got, honest)


def _fitted(features: FloatArray, target: FloatArray, seed: int) -> lgb.Booster:
    return lgb.train(MODEL | {"seed": seed}, lgb.Dataset(features, label=target), N_ROUNDS)


def _features(case: LeakageCase, ledger: pl.DataFrame) -> FloatArray:
    """(rows x features of all sets) of the spine; null is NaN."""
    columns = []
    for one in case.sets:
        spine = case.spine.select(*one.entity, "as_of")
        told = evaluate(one, spine, {source.name: ledger for source in one.sources}, case.zone, case.cutoff)
        columns.append(told.select(pl.col(one.feature_names).name.prefix(f"{one.name}.")))
    return pl.concat(columns, how="horizontal").cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _by_event_time(case: LeakageCase, ledger: pl.DataFrame) -> pl.DataFrame:
    """What a join by event time takes the rows for: known, in their last form, when what they speak of happened."""
    happened = pl.col(case.joined_by)
    day = happened.dt.convert_time_zone(case.zone).dt.date()
    return ledger.with_columns(event_time=happened, knowledge_time=happened, event_date=day)


def retailer_case(plan: RetailerPlan, outage_share: float) -> LeakageCase:
    """Units of the next seven days of every series of a built-in retailer, from its sales.

    Args:
        plan: The retailer; its late, corrected and retracted records are there in any case.
        outage_share: Share of the days of stores that are sent one to three days late, beside those.
    """
    with tempfile.TemporaryDirectory(prefix="replenish-leakage-") as folder:
        lay_out_retailer(Path(folder), plan)
        deployment = open_deployment(Path(folder))
        run_to_silver(deployment, now=ARRIVAL)
        postings = deployment.lake.read("silver/sales")
        zone, cutoff = deployment.dataset.zone, deployment.dataset.cutoff
    days = range(FIRST_ORIGIN_DAY, plan.n_days - HORIZON_DAYS, STEP_DAYS)
    origins = [plan.first_date + timedelta(days=day) for day in days]
    grid = pl.DataFrame({"origin": origins, "as_of": [origin_instant(day, zone, cutoff) for day in origins]})
    series = postings.select("sku_id", "location_id").unique().sort("sku_id", "location_id")
    spine = series.join(grid, how="cross")
    over = pl.col("as_of") + timedelta(days=HORIZON_DAYS)
    spine = spine.with_columns(_units_after(spine, postings), target_event=over, target_known=over)
    return LeakageCase(demand_set(), spine, late_by_outages(postings, outage_share, seed=plan.seed), zone, cutoff)


def _units_after(spine: pl.DataFrame, postings: pl.DataFrame) -> pl.Series:
    """Units of the days from the origin on, as all records together say."""
    key = ["sku_id", "location_id", "event_date"]
    signed = pl.col("posting_sign") * pl.col("units")
    daily = postings.filter(pl.col("posting_kind") != "return").group_by(key).agg(units=signed.sum())
    steps = pl.DataFrame({"step": range(HORIZON_DAYS)})
    days = spine.select("sku_id", "location_id", "origin").join(steps, how="cross", maintain_order="left_right")
    days = days.with_columns(event_date=pl.col("origin") + pl.duration(days="step"))
    units = days.join(daily, on=key, how="left", maintain_order="left")["units"].fill_null(0).to_numpy()
    return pl.Series("target", units.reshape(len(spine), HORIZON_DAYS).sum(axis=1))


def lead_time_case(scms: Path, joined_by: str) -> LeakageCase:
    """Days from order to delivery of every order line, at the instant of its order."""
    with tempfile.TemporaryDirectory(prefix="replenish-leakage-") as folder:
        prepare_deployment(Path(folder), scms, feed=None, assume=None)
        deployment = open_deployment(Path(folder))
        run_to_silver(deployment, now=ARRIVAL)
        build_gold_tables(deployment.lake, Path(folder) / "dbt")
        lines = received_lines(deployment.lake.read("gold/fct_supply"))
        zone, cutoff = deployment.dataset.zone, deployment.dataset.cutoff
    spine = lines.select(
        "supplier_id", "location_id", "sku_id", as_of="ordered_at", target="lead_time_days",
        target_event=joined_by, target_known="knowledge_time",
    )  # fmt: skip
    return LeakageCase(lead_time_sets(), spine, lines, zone, cutoff, joined_by)
