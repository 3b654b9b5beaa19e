"""The cluster engine on a retailer's lake against the embedded engine: rows, commits, kills and refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from replenish.errors import OutOfRange
from replenish.features.cluster.engine import EmbeddedEngine, FeatureJob, pinned
from replenish.features.cluster.spark_engine import ClusterEngine
from replenish.features.definitions.model import FeatureSet
from replenish.stores.lake import DeltaLake
from tests.cluster.retail import SPINE, demand_job, retail_lake

N_SERIES, N_DAYS = 200, 200
ORDER = ["sku_id", "location_id", "as_of"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> DeltaLake:
    return retail_lake(tmp_path_factory.mktemp("retail"), N_SERIES, N_DAYS)


def differences(found: pl.DataFrame, expected: pl.DataFrame, feature_set: FeatureSet) -> tuple[int, int, int]:
    """Values compared, those that differ, and floats of other bits although within 1e-12."""
    assert found.columns == expected.columns
    assert found.schema == expected.schema
    found, expected = found.sort(ORDER), expected.sort(ORDER)
    carried = [name for name in expected.columns if name not in feature_set.feature_names]
    assert found.select(carried).equals(expected.select(carried))
    n_wrong = n_other_bits = 0
    for name in feature_set.feature_names:
        ours, theirs = expected[name], found[name]
        unlike = theirs.ne_missing(ours)
        if ours.dtype == pl.Float64:
            near = ((theirs - ours).abs() <= 1e-12 * ours.abs()).fill_null(False)
            n_other_bits += int((unlike & near).sum())
            unlike &= ~near
        n_wrong += int(unlike.sum())
    return expected.height * len(feature_set.features), n_wrong, n_other_bits


def test_two_executor_processes_are_at_work(spark_address: str, spark_log: Path) -> None:
    said = spark_log.read_text(errors="replace")
    assert spark_address and said.count("Registered executor") >= 2


def test_spark_writes_what_the_embedded_engine_writes(spark_address: str, gold: DeltaLake) -> None:
    job = demand_job(gold, "features/embedded")
    began = time.process_time(), time.monotonic()
    EmbeddedEngine().evaluate(job, gold)
    embedded = time.process_time() - began[0]
    began = time.process_time(), time.monotonic()
    commit = ClusterEngine(spark_address).evaluate(replace(job, target="features/cluster"), gold)
    wall = time.monotonic() - began[1]
    assert (commit.version, commit.n_rows) == (0, gold.row_count(SPINE))
    found, expected = gold.read("features/cluster"), gold.read("features/embedded")
    n_values, n_wrong, n_other_bits = differences(found, expected, job.feature_set)
    print(f"\n{job.feature_set.name}: {expected.height} rows, {n_values} values, {n_wrong} differences;")
    print(f"{n_other_bits} floats differ in their last bits; embedded {embedded:.1f} s of CPU, cluster {wall:.1f} s")
    assert n_wrong == 0
    assert n_values > 1_000_000
    # A repeat is a look at the log.
    assert ClusterEngine(spark_address).evaluate(replace(job, target="features/cluster"), gold) == commit


def small_job(gold: DeltaLake, target: str) -> FeatureJob:
    """A few features of every source."""
    job = demand_job(gold, target)
    kept = ("units_lag_7", "units_sum__28", "days_since_last_sale")
    features = tuple(feature for feature in job.feature_set.features if feature.name in kept)
    names = {feature.source for feature in features}
    return replace(
        job,
        feature_set=replace(job.feature_set, features=features),
        ledgers={name: at for name, at in job.ledgers.items() if name in names},
    )


def test_a_pinned_version_stays_what_it_was(spark_address: str, gold: DeltaLake) -> None:
    job = small_job(gold, "features/before")
    gold.append("gold/fct_demand", gold.read("gold/fct_demand").head(500), partition_by=["event_month"])
    assert pinned(gold, "gold/fct_demand") != job.ledgers["sales"]
    ClusterEngine(spark_address).evaluate(job, gold)
    EmbeddedEngine().evaluate(replace(job, target="features/before_embedded"), gold)
    found, expected = gold.read("features/before"), gold.read("features/before_embedded")
    assert differences(found, expected, job.feature_set)[1] == 0


@pytest.mark.parametrize(("failpoint", "is_in"), [("lake.before_write", False), ("lake.written", True)])
def test_a_killed_run_leaves_no_row_or_all_and_a_repeat_adds_nothing(
    spark_address: str, gold: DeltaLake, failpoint: str, is_in: bool
) -> None:
    target = f"features/killed_{failpoint.rpartition('.')[2]}"
    program = (
        "import sys, warnings; from pathlib import Path\n"
        "from tests.cluster.test_spark_on_the_lake import *\n"
        "lake = DeltaLake(Path(sys.argv[1]))\n"
        "ClusterEngine(sys.argv[2]).evaluate(small_job(lake, sys.argv[3]), lake)"
    )
    environment = {**os.environ, "REPLENISH_FAILPOINT": f"{failpoint}:kill:1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(gold.root), spark_address, target]
    died = subprocess.run(command, env=environment, check=False, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL
    n_rows = gold.row_count(SPINE)
    assert (gold.row_count(target) if gold.has(target) else 0) == (n_rows if is_in else 0)
    assert list(gold.path(target).glob("parts-*/*.parquet"))
    for _ in range(2):
        commit = ClusterEngine(spark_address).evaluate(small_job(gold, target), gold)
        assert (commit.version, commit.n_rows) == (0, n_rows)
    job = small_job(gold, f"{target}_embedded")
    EmbeddedEngine().evaluate(job, gold)
    assert differences(gold.read(target), gold.read(job.target), job.feature_set)[1] == 0


def test_a_cluster_refuses_what_the_embedded_engine_refuses(spark_address: str, gold: DeltaLake) -> None:
    spine = gold.read(SPINE).head(3)
    off = spine.with_columns(pl.col("as_of") + pl.duration(minutes=1))
    silent = spine.with_columns(as_of=pl.when(pl.int_range(pl.len()) > 0).then("as_of"))
    for nr, (faulty, said) in enumerate(((off, "cut-offs only"), (silent, "as_of is null"))):
        gold.append(f"gold/dim_faulty_{nr}", faulty)
        job = replace(small_job(gold, "features/refused"), spine=pinned(gold, f"gold/dim_faulty_{nr}"))
        for engine in (EmbeddedEngine(), ClusterEngine(spark_address)):
            with pytest.raises(OutOfRange, match=said):
                engine.evaluate(job, gold)
    assert not gold.has("features/refused")
