"""Runs the stages of a small retailer in a fresh process and prints the digest of everything they made, as JSON.

Run as `python -m tests.scenario.loop_digests ROOT THREADS [faulty]`; Polars takes its thread count from the
environment.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl

from replenish.cli.deployment import Deployment
from replenish.cli.stages import run_lead_times, run_to_features
from replenish.contracts.profile import read_profile
from replenish.control.policy import read_policy
from replenish.decide.replenish import decide_origin
from replenish.digests import table_digest
from replenish.forecast.backtest import run_backtest
from replenish.forecast.challenger import train_challenger
from replenish.forecast.predict import forecast_origin
from replenish.forecast.protection import protection_demand
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.outbox import Outbox
from replenish.stores.registry import ModelRegistry
from tests.scenario.faulty_files import drop_faulty_files
from tests.scenario.worlds import NOW, gold_digests, small_retailer

N_DAYS = 200
TABLES = ("features/feat_demand", "features/lead_time", "forecasts/backtest", "forecasts/demand")
TABLES += ("forecasts/protection_demand", "decisions/replenishment")


def run_all_stages(deployment: Deployment, threads: int) -> dict[str, str]:
    """Digests of gold, features, model, forecasts and decisions after one run of everything."""
    lake, dataset = deployment.lake, deployment.dataset
    profile = read_profile(dataset.profile)
    origin = RetailerPlan(seed=0).first_date + timedelta(days=N_DAYS)
    registry = ModelRegistry(deployment.layout.registry)
    run_to_features(deployment, now=NOW, threads=threads)
    run_lead_times(deployment, [origin])
    run_backtest(lake, dataset, profile, origin)
    card = train_challenger(lake, registry, dataset, profile, origin, num_threads=threads)
    forecast_origin(lake, registry, dataset, profile, origin)
    protection_demand(lake, dataset, profile, origin)
    outbox = Outbox(deployment.layout.outbox)
    decide_origin(lake, deployment.journal, outbox, dataset, read_policy(), deployment.contracts, origin)
    orders = sorted(path.read_text(encoding="utf-8") for path in deployment.layout.outbox.glob("*.json"))
    tables = {table: table_digest(lake.read(table), []) for table in TABLES}
    outbox_digest = table_digest(pl.DataFrame({"order": orders}), [])
    return gold_digests(lake) | tables | {"model": card.as_json()["digest"], "outbox": outbox_digest}


if __name__ == "__main__":
    made = small_retailer(Path(sys.argv[1]), n_days=N_DAYS)
    if "faulty" in sys.argv[3:]:
        drop_faulty_files(made.layout.drop)
    print(json.dumps(run_all_stages(made, int(sys.argv[2]))))
