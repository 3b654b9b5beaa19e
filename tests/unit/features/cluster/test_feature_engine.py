"""What engines promise assets: one commit or none, the same rows on a repeat, and a choice by settings alone."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.errors import BrokenPromise, NotApplicable, StoreError
from replenish.features.cluster.duckdb_engine import evaluate_in_duckdb
from replenish.features.cluster.engine import EmbeddedEngine, FeatureJob
from replenish.features.cluster.spark_engine import ClusterEngine
from replenish.features.cluster.staged_parts import commit_parts
from replenish.stores.lake import DeltaLake
from resources.engine import EngineResource
from resources.environment import feature_engine, resources_for
from resources.lake import LakeResource
from tests.cluster.retail import CUTOFF, SPINE, ZONE, demand_job, retail_lake
from tests.unit.features.cluster.part_files import ROWS, TARGET, in_two_files


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> DeltaLake:
    return retail_lake(tmp_path_factory.mktemp("retail"), n_series=8, n_days=50)


def test_part_files_become_rows_in_one_commit(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")
    first = commit_parts(lake, TARGET, in_two_files, ("run", 1))
    assert (first.version, first.n_rows) == (0, 3)
    assert lake.read(TARGET).sort("sku_id").equals(ROWS)
    again = commit_parts(lake, TARGET, in_two_files, ("run", 1))
    assert (again.version, again.n_rows) == (0, 3)
    other = commit_parts(lake, TARGET, in_two_files, ("run", 2))
    assert (other.version, other.n_rows, lake.app_version(TARGET, "run")) == (1, 6, 2)
    # Beside rows of the platform's own writer, and with nothing left that no version names.
    assert lake.append(TARGET, ROWS, app=("other", 1)).n_rows == 9
    named = {str(lake.path(TARGET) / path) for path in lake.file_paths(TARGET)}
    assert {
        str(path) for path in lake.path(TARGET).rglob("*") if path.is_file() and "_delta_log" not in str(path)
    } == named


def test_a_run_without_rows_moves_its_offset(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")

    def nothing(folder: Path) -> None:
        folder.mkdir()
        ROWS.head(0).write_parquet(folder / "part-0.parquet")

    assert commit_parts(lake, TARGET, nothing, ("run", 1)).n_rows == 0
    assert lake.app_version(TARGET, "run") == 1
    assert commit_parts(lake, TARGET, nothing, ("run", 2)).version == 1


def test_other_columns_are_refused_and_their_files_removed(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")
    commit_parts(lake, TARGET, in_two_files, ("run", 1))

    def wider(folder: Path) -> None:
        folder.mkdir()
        ROWS.with_columns(x=pl.lit(1)).write_parquet(folder / "part-0.parquet")

    with pytest.raises(BrokenPromise, match="other columns"):
        commit_parts(lake, TARGET, wider, ("run", 2))
    assert (lake.version(TARGET), lake.row_count(TARGET)) == (0, 3)
    assert len(list(lake.path(TARGET).glob("parts-*"))) == 1


def test_an_engine_that_fails_leaves_nothing(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")

    def broken(folder: Path) -> None:
        in_two_files(folder)
        raise StoreError("the cluster has gone")

    with pytest.raises(StoreError):
        commit_parts(lake, TARGET, broken, ("run", 1))
    assert not lake.has(TARGET)
    assert not list(lake.path(TARGET).glob("parts-*"))


@pytest.mark.parametrize(("failpoint", "n_before"), [("lake.before_write", 0), ("lake.written", 3), ("lake.done", 3)])
def test_a_killed_commit_is_whole_or_nothing_and_a_repeat_adds_nothing(
    tmp_path: Path, failpoint: str, n_before: int
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.features.cluster.part_files import *\n"
        "commit_parts(DeltaLake(Path(sys.argv[1]) / 'lake'), TARGET, in_two_files, ('run', 1))"
    )
    environment = {**os.environ, "REPLENISH_FAILPOINT": f"{failpoint}:kill:1"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    died = subprocess.run(command, env=environment, check=False, cwd=Path(__file__).parents[4])
    assert died.returncode == -signal.SIGKILL
    lake = DeltaLake(tmp_path / "lake")
    assert (lake.row_count(TARGET) if lake.has(TARGET) else 0) == n_before
    assert commit_parts(lake, TARGET, in_two_files, ("run", 1)).n_rows == 3
    assert lake.read(TARGET).sort("sku_id").equals(ROWS)


def test_the_embedded_engine_writes_what_the_query_gives(gold: DeltaLake) -> None:
    job = demand_job(gold, TARGET)
    commit = EmbeddedEngine().evaluate(job, gold)
    assert EmbeddedEngine().evaluate(job, gold) == commit
    ledgers = {name: gold.read(at.table, version=at.version) for name, at in job.ledgers.items()}
    expected = evaluate_in_duckdb(job.feature_set, gold.read(SPINE), ledgers, ZONE, CUTOFF)
    order = ["sku_id", "location_id", "as_of"]
    found = gold.read(TARGET)
    assert found.columns == expected.columns
    assert_frame_equal(found.sort(order), expected.sort(order), rel_tol=1e-12, abs_tol=0)
    n_said = sum(expected[name].drop_nulls().len() for name in job.feature_set.feature_names)
    assert n_said > expected.height * len(job.feature_set.features) / 2


# The choice.


@dg.asset
def feat_small(lake: LakeResource, engine: EngineResource) -> None:
    """What a feature asset looks like: it does not know which engine it has."""
    tables = lake.open()
    engine.open().evaluate(demand_job(tables, "features/small"), tables)


def test_an_asset_evaluates_with_the_engine_of_the_deployment(gold: DeltaLake) -> None:
    resources = {"lake": LakeResource(root=str(gold.root.parent)), "engine": EngineResource()}
    assert dg.materialize([feat_small], resources=resources).success
    assert gold.row_count("features/small") == gold.row_count(SPINE)


def test_settings_choose_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(feature_engine().open(), EmbeddedEngine)
    monkeypatch.setenv("REPLENISH_ENGINE", "cluster")
    with pytest.raises(dg.DagsterInvariantViolationError, match="REPLENISH_SPARK_REMOTE"):
        feature_engine()
    monkeypatch.setenv("REPLENISH_SPARK_REMOTE", "sc://spark-connect:15002/;token=secret")
    monkeypatch.setenv("REPLENISH_SPARK_SETTINGS", "spark.sql.shuffle.partitions=8")
    engine = resources_for("test", tmp_path)["engine"]
    assert isinstance(engine, EngineResource)
    assert "secret" not in str(engine)
    seen: list[object] = []

    @dg.asset
    def looks(engine: EngineResource) -> None:
        seen.append(engine.open())

    assert dg.materialize([looks], resources={"engine": engine}).success
    assert isinstance(seen[0], ClusterEngine)
    monkeypatch.setenv("REPLENISH_ENGINE", "ray")
    with pytest.raises(dg.DagsterInvariantViolationError, match="embedded, cluster"):
        feature_engine()


def test_a_job_that_is_inside_asks_no_cluster(gold: DeltaLake) -> None:
    job: FeatureJob = demand_job(gold, "features/once")
    commit = EmbeddedEngine().evaluate(job, gold)
    assert ClusterEngine("sc://nowhere.invalid:1").evaluate(job, gold) == commit


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is not None, reason="the extra `cluster` is installed")
def test_a_cluster_without_its_client_says_what_to_install(gold: DeltaLake) -> None:
    with pytest.raises(NotApplicable, match="extra `cluster`"):
        ClusterEngine("sc://nowhere.invalid:1").evaluate(demand_job(gold, "features/never"), gold)
    assert not gold.has("features/never")
