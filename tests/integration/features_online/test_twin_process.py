"""The served twin as a process: answers, refusals, and equal vectors after being killed at any moment."""

from __future__ import annotations

import random
import time as wall
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.cli.twin_follower import SnapshotPace, TwinFollower
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.features.online.served_log import read_served
from replenish.features.online.twin_plan import KEEP_ALL
from replenish.stores.journal_reader import JournalReader
from tests.integration.features_online.online_world import LAST_DAY, OnlineWorld, online_world
from tests.integration.features_online.twin_process import TwinProcess, twin_serving

SETS = read_feature_sets()
NOW = datetime.combine(LAST_DAY, time(15), UTC)
"""Where the clock of every process stands."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineWorld]:
    with online_world(tmp_path_factory.mktemp("served") / "root") as world:
        yield world


def _head(world: OnlineWorld) -> int:
    reader = JournalReader(world.layout.journal)
    try:
        return reader.last_parts_seq()
    finally:
        reader.close()


def _answers(twin: TwinProcess, world: OnlineWorld) -> dict[tuple[str, str], dict[str, object]]:
    """What each key of each set is worth, and at which place of the log."""
    found = {}
    for name in SETS:
        for key in world.keys()[:-1]:
            status, body = twin.get(f"/features/{name}/{','.join(key)}")
            assert status == 200, body
            found[name, ",".join(key)] = {"values": body["values"], "seq": body["seq"]}
    return found


def _never_killed(world: OnlineWorld, folder: Path) -> dict[tuple[str, str], dict[str, object]]:
    """The same from a twin in this process that took in the log from its start."""
    follower = TwinFollower(world.deployment, list(SETS.values()), KEEP_ALL, lambda: NOW, SnapshotPace(), folder=folder)
    follower.take_in()
    found = {}
    for name, twin in follower.twins.items():
        for key in world.keys()[:-1]:
            answer = twin.answer(key, NOW)
            values = dict(zip(twin.feature_set.feature_names, answer.values, strict=True))
            found[name, ",".join(key)] = {"values": values, "seq": answer.seq}
    follower.stop()
    return found


def test_a_twin_that_is_killed_again_and_again_says_what_one_that_never_was_says(
    world: OnlineWorld, tmp_path: Path
) -> None:
    chooser = random.Random(5)
    began = []
    for nr in range(4):
        # Snapshots all the time, so that some are cut off.
        with twin_serving(world.layout.root, NOW, "--snapshot-seconds", "1", "--snapshot-records", "1") as twin:
            began += [line for line in twin.told if "keys" in line]
            world.change_some_sales(100 + nr, 15, NOW - timedelta(hours=60 - 10 * nr))
            world.settle(NOW - timedelta(hours=59 - 10 * nr))
            if chooser.random() < 0.5:
                twin.wait_for(_head(world))
            wall.sleep(chooser.uniform(0, 0.4))
            twin.kill()
    with twin_serving(world.layout.root, NOW) as twin:
        twin.wait_for(_head(world))
        answers = _answers(twin, world)
        assert twin.stop() == 0
    assert any(".snapshot" in line for line in began), began
    told = [value for answer in answers.values() for value in answer["values"].values()]  # type: ignore[attr-defined]
    assert sum(value not in (None, 0) for value in told) > len(told) // 2
    assert answers == _never_killed(world, tmp_path / "fresh")
    # A clean stop wrote a snapshot: nothing is left to take in.
    with twin_serving(world.layout.root, NOW) as twin:
        assert any(f"{_head(world):012}.snapshot" in line for line in twin.told), twin.told
        assert _answers(twin, world) == answers


def test_answers_are_the_offline_evaluators_and_are_kept_for_reconciliation(world: OnlineWorld) -> None:
    sku, store = world.keys()[0]
    with twin_serving(world.layout.root, NOW, "--log-every", "2") as twin:
        for _ in range(3):
            status, body = twin.get(f"/features/stock_now/{sku},{store}?units=true")
        assert status == 200
        assert body["key"] == {"sku_id": sku, "location_id": store}
        assert body["units"]["price_cents"] == "cents"
        assert body["freshness"]["is_current"] is True
        assert body["seq"] == body["freshness"]["log_seq"] == _head(world)
    kept = list(read_served(world.layout.root / "twin" / "stock_now" / "served"))[-2:]
    assert [served.key for served in kept] == [(sku, store)] * 2
    assert kept[-1].values == body["values"]
    assert (kept[-1].feature_set_id, kept[-1].seq) == (body["feature_set_id"], body["seq"])
    assert set(kept[-1].versions) == {"replenish", "contract prices", "contract stock_counts"}
    # What is kept is enough to ask the offline evaluator the same.
    feature_set, dataset = SETS["stock_now"], world.deployment.dataset
    lake, spine = world.deployment.lake, pl.DataFrame([(*kept[-1].key, kept[-1].as_of)], _SPINE, orient="row")
    ledgers = {
        "stock": lake.read("silver/stock_counts"),
        "prices": lake.read("silver/prices").with_columns(pl.col("is_promotion").cast(pl.Int64)),
    }
    expected = evaluate(feature_set, spine, ledgers, dataset.zone, dataset.cutoff).row(0, named=True)
    assert {name: expected[name] for name in kept[-1].values} == kept[-1].values


_SPINE = {"sku_id": pl.String(), "location_id": pl.String(), "as_of": pl.Datetime("us", "UTC")}


def test_what_cannot_be_answered_is_refused_in_words(world: OnlineWorld) -> None:
    sku, store = world.keys()[0]
    key, ahead = f"{sku},{store}", (NOW + timedelta(seconds=1)).isoformat().replace("+", "%2B")
    cases = {
        f"/features/nothing/{key}": (404, "unknown_set"),
        "/features/stock_now/nobody,nowhere": (404, "unknown_key"),
        f"/features/stock_now/{sku}": (422, "bad_key"),
        f"/features/stock_now/{sku}%2C{store}": (422, "bad_key"),
        f"/features/stock_now/{key},more": (422, "bad_key"),
        f"/features/stock_now/{key}?as_of=yesterday": (422, "bad_as_of"),
        f"/features/stock_now/{key}?as_of=2024-03-01T00:00:00": (422, "bad_as_of"),
        f"/features/stock_now/{key}?as_of={ahead}": (422, "as_of_future"),
        f"/features/stock_now/{key}?as_of=2024-03-01T00:00:00Z": (422, "as_of_past"),
        f"/features/demand_daily/{key}?as_of=2024-03-01T00:00:01%2B00:00": (422, "as_of_no_cutoff"),
    }
    with twin_serving(world.layout.root, NOW) as twin:
        for path, expected in cases.items():
            status, body = twin.get(path)
            assert (status, body["title"]) == expected, (path, body)
        status, health = twin.get("/health")
        assert (status, health["status"], health["behind"]) == (200, "alive", False)
        metrics = twin.get("/metrics")[1]
        assert 'replenish_twin_requests_total{feature_set="stock_now",status="422"} 7.0' in metrics
        assert f'replenish_twin_seq{{feature_set="demand_daily"}} {float(_head(world))}' in metrics
        assert metrics.endswith("# EOF\n")


def test_an_address_that_others_can_reach_is_refused(world: OnlineWorld) -> None:
    twin = TwinProcess(world.layout.root, NOW, "--host", "0.0.0.0")
    assert twin.process.wait(60) == 2
    assert twin.process.stderr is not None
    assert "asks nobody who they are" in twin.process.stderr.read()
