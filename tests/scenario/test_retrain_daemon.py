"""Demand shifts; a running Dagster daemon notices, retrains once, and the registry holds a new challenger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from replenish.bitemporal import origin_instant
from replenish.cli.dagster_process import dagster_environment
from replenish.cli.demo import lay_out_retailer
from replenish.cli.deployment import CHECKOUT, Deployment, open_deployment
from replenish.cli.stages import run_lead_times, run_to_features
from replenish.contracts.profile import read_profile
from replenish.drift.episode import judge_episode
from replenish.drift.scores import DRIFT_TABLE, score_drift
from replenish.forecast.backtest import run_backtest
from replenish.forecast.challenger import train_challenger
from replenish.forecast.predict import forecast_origin
from replenish.outcomes.retailer_plan import DemandShift, RetailerPlan
from replenish.stores.registry import ModelRegistry

pytestmark = pytest.mark.slow

SHIFT_DAY = 195
PLAN = RetailerPlan(
    seed=5,
    n_skus=12,
    n_locations=2,
    n_days=200,
    with_faults=False,
    demand_shift=DemandShift("C1", 2.0, SHIFT_DAY),
)
TRAINED_AT = PLAN.first_date + timedelta(days=SHIFT_DAY)
ORIGIN = PLAN.first_date + timedelta(days=PLAN.n_days)
WAIT_SECONDS = 180
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Retrained:
    """What a running daemon left behind."""

    runs: tuple[dg.DagsterRun, ...]
    models_before: tuple[str, ...]
    registry: ModelRegistry
    run_key: str | None


def shifted(root: Path) -> Deployment:
    """A champion from before the shift, forecasts in operation since, and the drift scores of today."""
    lay_out_retailer(root, PLAN)
    opened = open_deployment(root)
    lake, dataset, profile = opened.lake, opened.dataset, read_profile(opened.dataset.profile)
    run_to_features(opened, now=origin_instant(ORIGIN, dataset.zone, dataset.cutoff), through=ORIGIN)
    run_lead_times(opened, [ORIGIN])
    registry = ModelRegistry(opened.layout.registry)
    run_backtest(lake, dataset, profile, TRAINED_AT)
    train_challenger(lake, registry, dataset, profile, TRAINED_AT)
    forecast_origin(lake, registry, dataset, profile, TRAINED_AT)
    score_drift(lake, profile, ORIGIN)
    return opened


@contextmanager
def running_daemon(opened: Deployment) -> Iterator[dg.DagsterInstance]:
    """A `dagster-daemon` process on a deployment, and the instance it works on; ended with all it started."""
    command = [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-w", "workspace.yaml"]
    environment = dagster_environment(opened.layout) | {"REPLENISH_ENV": "dev"}
    log = opened.layout.root / "daemon.log"
    with log.open("wb") as sink:
        daemon = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        with dg.DagsterInstance.from_config(str(opened.layout.dagster_home)) as instance:
            yield instance
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        try:
            daemon.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(timeout=30)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(LOOK_SECONDS)


def retrain_runs(instance: dg.DagsterInstance) -> tuple[dg.DagsterRun, ...]:
    return tuple(instance.get_runs(filters=dg.RunsFilter(job_name="retrain")))


def n_looks(instance: dg.DagsterInstance) -> int:
    """How often the drift sensor has looked."""
    sensors = [state for state in instance.all_instigator_state() if state.instigator_name == "drift_retrain"]
    return sum(len(instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id)) for sensor in sensors)


@pytest.fixture(scope="module")
def retrained(tmp_path_factory) -> Retrained:
    opened = shifted(tmp_path_factory.mktemp("retrain") / "root")
    registry = ModelRegistry(opened.layout.registry)
    before = tuple(entry.digest for entry in registry.promotions())
    verdict = judge_episode(opened.lake.read(DRIFT_TABLE))
    with running_daemon(opened) as instance:
        wait_until(lambda: any(run.is_finished for run in retrain_runs(instance)), "a finished retraining run")
        looks = n_looks(instance)
        wait_until(lambda: n_looks(instance) > looks, "another look of the sensor")
        return Retrained(retrain_runs(instance), before, registry, verdict.run_key)


def test_a_running_daemon_retrains_once_after_a_shift(retrained) -> None:
    (run,) = retrained.runs
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags["dagster/run_key"] == retrained.run_key
    assert run.tags["dagster/partition"] == ORIGIN.isoformat()


def test_the_registry_holds_a_new_challenger_and_its_verdict(retrained) -> None:
    judged = retrained.registry.promotions()[len(retrained.models_before) :]
    assert len(judged) == 1
    (challenger,) = judged
    assert challenger.digest not in retrained.models_before
    assert challenger.champion_before == retrained.models_before[-1]
    assert retrained.registry.load_model(challenger.digest).card["model"]["trained_at"] == ORIGIN.isoformat()
