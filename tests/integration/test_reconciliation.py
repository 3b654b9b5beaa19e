"""The asset of reconciliation: equal vectors pass, one that nothing explains stops whatever depends on it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import msgspec
import polars as pl
import pytest

from assets.published import published_assets
from assets.reconciliation import EQUAL_CHECK, served_reconciliation
from replenish.bitemporal import origin_instant
from replenish.cli.deployment import Deployment
from replenish.cli.silver_at import SilverAt
from replenish.cli.stages import run_to_silver
from replenish.cli.twin_follower import SnapshotPace, TwinFollower
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.features.online.served_log import ServedLog, ServedVector, told_values
from replenish.features.online.twin_plan import KeptHistory
from replenish.features.reconciliation.compare import plain_value
from replenish.features.reconciliation.ledger_history import ledgers_of
from replenish.features.reconciliation.reconcile import reconcile_origin
from resources.environment import resources_for
from tests.scenario.worlds import NOW, small_retailer

pytestmark = pytest.mark.slow


@dg.asset(deps=["served_reconciliation"])
def released() -> None:
    """Stands for what must not leave."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = small_retailer(tmp_path_factory.mktemp("served") / "root", n_days=30)
    run_to_silver(made, now=NOW)
    return made


@pytest.fixture(scope="module")
def right(deployment: Deployment) -> list[ServedVector]:
    """What a twin would have served of both sets, computed from what the log says."""
    dataset = deployment.dataset
    assert dataset.origin is not None
    as_of = origin_instant(dataset.origin, dataset.zone, dataset.cutoff)
    history = SilverAt(deployment.lake, deployment.contracts, dataset)
    seq = deployment.lake.app_version("silver/sales", "silver")
    assert seq is not None
    found = []
    for feature_set in read_feature_sets().values():
        keys = deployment.lake.read("silver/sales").select(feature_set.entity).unique().sort(feature_set.entity).head(3)
        spine = keys.with_columns(as_of=pl.lit(as_of, pl.Datetime("us", "UTC")))
        asked = feature_set.on_postings()
        frame = evaluate(asked, spine, ledgers_of(asked, history, keys, None), dataset.zone, dataset.cutoff)
        for row in frame.iter_rows(named=True):
            values = {name: plain_value(row[name]) for name in feature_set.feature_names}
            key = tuple(row[name] for name in feature_set.entity)
            ids = (feature_set.name, feature_set.version, feature_set_digest(feature_set), "c0de")
            found.append(ServedVector(*ids, key, as_of, 10**6, as_of, values, {}))
    return found


def run(deployment: Deployment, vectors: list[ServedVector]) -> tuple[bool, bool]:
    """(whether the check passed, whether what depends on it ran)."""
    folder = deployment.layout.twin
    shutil.rmtree(folder, ignore_errors=True)
    for vector in vectors:
        log = ServedLog(folder / vector.feature_set / "served", every=1)
        log.keep(vector)
        log.close()
    done = dg.materialize(
        [served_reconciliation, released],
        resources=resources_for("test", deployment.layout.root),
        partition_key=str(deployment.dataset.origin),
        raise_on_error=False,
    )
    checks = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
    assert checks["schema_holds"]
    return checks[EQUAL_CHECK], bool(done.asset_materializations_for_node("released"))


def test_equal_vectors_release_and_an_unexplained_one_stops(deployment: Deployment, right: list[ServedVector]) -> None:
    assert len(right) > 4
    assert run(deployment, right) == (True, True)
    wrong = msgspec.structs.replace(right[0], values={**right[0].values, "units_sum__7": -3})
    assert run(deployment, [wrong, *right[1:]]) == (False, False)
    table = deployment.lake.read("monitoring/differing_vectors")
    assert table.select("feature", "served", "cause").unique().rows() == [("units_sum__7", "-3", "unexplained")]


def test_a_day_without_served_vectors_stops_nothing(deployment: Deployment, right: list[ServedVector]) -> None:
    elsewhere = [msgspec.structs.replace(vector, served_at=vector.served_at + timedelta(days=3)) for vector in right]
    assert run(deployment, elsewhere) == (True, True)


def test_a_twin_that_ran_ahead_of_late_files_is_explained(tmp_path: Path) -> None:
    made = small_retailer(tmp_path / "root", n_days=40)
    drop, later = made.layout.drop, tmp_path / "later"
    later.mkdir()
    late = [path for path in drop.iterdir() if path.stem.startswith(("sales-2024-02-0", "stock-2024-02-0"))]
    assert late
    for path in late:
        path.rename(later / path.name)
    run_to_silver(made, now=NOW)
    dataset = made.dataset
    assert dataset.origin is not None
    cutoff = origin_instant(dataset.origin, dataset.zone, dataset.cutoff)
    sets = list(read_feature_sets().values())
    follower = TwinFollower(made, sets, KeptHistory(), lambda: cutoff, SnapshotPace(), tmp_path / "twin")
    vectors = []
    for has_all in (False, True):
        if has_all:
            for path in later.iterdir():
                path.rename(drop / path.name)
            run_to_silver(made, now=NOW + timedelta(days=1))
        follower.take_in()
        for feature_set in sets:
            twin = follower.twins[feature_set.name]
            for key in sorted(twin.keys()):  # type: ignore[type-var]
                answer = twin.answer(key, cutoff)
                ids = (feature_set.name, feature_set.version, twin.feature_set_id, "c0de")
                said = dict(told_values(feature_set, answer.values))
                vectors.append(ServedVector(*ids, key, answer.as_of, answer.seq, cutoff, said, {}))  # type: ignore[arg-type]
    follower.stop()
    history = SilverAt(made.lake, made.contracts, dataset)
    found = reconcile_origin(
        vectors, read_feature_sets(), history, dataset.origin, zone=dataset.zone, cutoff=dataset.cutoff
    )
    assert found.verdict.n_values > 1_500
    assert set(found.verdict.by_cause) == {"late_data"}
    assert found.verdict.is_releasable


def test_nothing_is_published_past_the_check() -> None:
    for asset in published_assets():
        assert dg.AssetKey("served_reconciliation") in asset.asset_deps[asset.key]
