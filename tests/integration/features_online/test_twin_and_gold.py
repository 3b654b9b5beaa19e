"""The twin, fed by silver's postings record by record, against the offline evaluator on gold's facts.

Gold's `fct_demand`, `fct_price`, `fct_stock` only rename, cast and sum what silver holds: that is what the twin relies
on, and it is held here, table by table, before vectors are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import apsw
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.cli import twin_feed
from replenish.cli.twin_feed import LedgerFeed, source_ledger
from replenish.cli.twin_follower import SnapshotPace, TwinFollower
from replenish.cli.twin_records import TwinRecords
from replenish.errors import BrokenPromise, StoreError
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.features.online.snapshot_file import SnapshotWriter
from replenish.features.online.twin_plan import KEEP_ALL
from replenish.history.reposting import Change
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout
from tests.integration.features_online.online_world import OnlineWorld, online_world, spine_of

SETS = read_feature_sets()
STREAMS = ("prices", "sales", "stock_counts")
N_CUTOFFS = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineWorld]:
    """Files, then three settled batches of corrections, retractions and new sales; silver and gold up to date."""
    with online_world(tmp_path_factory.mktemp("online") / "root") as world:
        for nr, at in enumerate(world.cutoffs(N_CUTOFFS)[2:11:4]):
            world.change_some_sales(nr, 40, at + timedelta(hours=3))
            world.settle(at + timedelta(hours=4))
        world.build_lake()
        yield world


def test_the_feed_adds_up_to_silver_and_gold_is_silver_renamed_cast_and_summed(world: OnlineWorld) -> None:
    deployment, ledgers = world.deployment, {}
    records = TwinRecords(world.layout.root / "feed.sqlite")
    reader = JournalReader(deployment.layout.journal)
    feed = LedgerFeed(reader, deployment.layout, deployment.contracts, deployment.dataset, STREAMS, records)
    n_removed = 0
    for step in feed.steps(0):
        if step.stream is not None:
            before = ledgers.get(step.stream, step.added.clear())
            kept = Change(step.added, step.removed).without_removed(before)
            ledgers[step.stream] = pl.concat([kept, step.added])
            n_removed += step.removed.height
    assert n_removed > 0, "nothing came out of knowledge order"
    for stream in STREAMS:
        silver = deployment.lake.read(f"silver/{stream}")
        assert_frame_equal(ledgers[stream], silver.select(ledgers[stream].columns), check_row_order=False)
    demand = SETS["demand_daily"]
    for name, table in (("prices", "gold/fct_price"), ("stock", "gold/fct_stock")):
        ours = source_ledger(demand, demand.source(name), ledgers[demand.source(name).stream])
        gold = deployment.lake.read(table)
        ours = ours.select(pl.col(column).cast(gold.schema[column]) for column in ours.columns)
        assert_frame_equal(ours, gold.select(ours.columns), check_row_order=False)
    assert_frame_equal(
        _increments(ledgers["sales"]),
        deployment.lake.read("gold/fct_demand").select(_increments(ledgers["sales"]).columns),
        check_row_order=False,
        check_dtypes=False,
    )


def _increments(sales: pl.DataFrame) -> pl.DataFrame:
    """`fct_demand` of a ledger, written down a second time."""
    sign, kind = pl.col("posting_sign").cast(pl.Int64), pl.col("posting_kind")
    of_sales = pl.when(kind != "return").then(sign).otherwise(0)
    summed = sales.group_by("sku_id", "location_id", "event_date", "knowledge_date").agg(
        units=(of_sales * pl.col("units")).sum(),
        revenue_cents=(of_sales * pl.col("revenue_cents").fill_null(0)).sum(),
        lines=sign.filter(kind.is_in(["version", "reversal"])).sum(),
    )
    return summed.filter(pl.any_horizontal(pl.col("units", "revenue_cents", "lines") != 0))


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_vector_is_the_offline_evaluators_on_gold(world: OnlineWorld, name: str, tmp_path: Path) -> None:
    feature_set, dataset = SETS[name], world.deployment.dataset
    instants = world.cutoffs(N_CUTOFFS)
    if feature_set.clock == "instant":
        instants = sorted([*instants, *(at + timedelta(hours=7, microseconds=1) for at in instants)])
    follower = TwinFollower(world.deployment, [feature_set], KEEP_ALL, lambda: instants[0], SnapshotPace())
    follower.take_in()
    twin, spine = follower.twins[name], spine_of(world.keys(), instants)
    expected = evaluate(feature_set, spine, world.gold_ledgers(feature_set), dataset.zone, dataset.cutoff)
    n_values = 0
    for row in expected.rows():
        *key, as_of = row[:3]
        vector = twin.vector(tuple(key), as_of)
        assert vector == row[3:], (key, as_of, _first_difference(feature_set, vector, row[3:]))
        n_values += sum(value not in (None, 0) for value in vector)
    assert n_values > len(instants) * 12
    follower.stop()


def _first_difference(feature_set: FeatureSet, found: tuple[object, ...], expected: tuple[object, ...]) -> object:
    triples = zip(feature_set.feature_names, found, expected, strict=True)
    return next((triple for triple in triples if triple[1] != triple[2]), None)


def test_records_and_snapshots_of_another_log_are_made_again(world: OnlineWorld, tmp_path: Path) -> None:
    def opened() -> TwinFollower:
        clock = world.cutoffs(1)[0]
        return TwinFollower(
            world.deployment, [SETS["stock_now"]], KEEP_ALL, lambda: clock, SnapshotPace(), folder=tmp_path
        )

    first = opened()
    n_taken = first.take_in()
    first.stop()
    again = opened()
    assert (again.take_in(), again.twins["stock_now"].seq) == (0, first.seq)
    again.stop()
    with apsw.Connection(str(tmp_path / "records.sqlite")) as records:
        records.execute("update meta set value = 'ff' where name = 'chain'")
    other = opened()
    assert "lies behind place 0" in " ".join(other.notes)
    assert other.take_in() == n_taken
    other.stop()


def test_records_that_wait_are_one_step_but_for_those_that_a_state_of_the_snapshot_has(
    world: OnlineWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature_set, clock, keys = SETS["demand_daily"], world.cutoffs(1)[0], world.keys()

    def opened() -> TwinFollower:
        return TwinFollower(world.deployment, [feature_set], KEEP_ALL, lambda: clock, SnapshotPace(), folder=tmp_path)

    def vectors(follower: TwinFollower) -> list[object]:
        return [follower.twins[feature_set.name].vector(key, clock) for key in keys]

    first, n_steps, places = opened(), 0, [0]
    while first.take_in(most_steps=1):
        n_steps += 1
        places.append(first.seq)
    n_records = len(list(JournalReader(world.layout.journal).records(0, PART_BEARING)))
    assert n_steps < n_records, "every record was a step of its own"
    expected = vectors(first)
    first.stop()
    for path in tmp_path.rglob("*.snapshot"):
        path.unlink()
    again = opened()
    while again.seq < places[-2]:
        again.take_in(most_steps=1)
    writer = SnapshotWriter(again.twins[feature_set.name], tmp_path / feature_set.name)
    # The next record alone, as if those behind it had not come yet: the states hold it, the file's place is before it.
    monkeypatch.setattr(twin_feed, "ROWS_TOGETHER", 1)
    again.take_in(most_steps=1)
    while writer.step():
        pass
    writer.place()
    monkeypatch.undo()
    again.stop()
    max((tmp_path / feature_set.name).glob("*.snapshot")).unlink()
    resumed = opened()
    assert resumed.seq == places[-2] < resumed.twins[feature_set.name].states_through < places[-1]
    assert vectors_after(resumed, vectors) == expected


def vectors_after(follower: TwinFollower, vectors: Callable[[TwinFollower], list[object]]) -> list[object]:
    follower.take_in()
    found = vectors(follower)
    follower.stop()
    return found


def test_a_twin_that_failed_writes_no_snapshot(
    world: OnlineWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = world.cutoffs(1)[0]
    follower = TwinFollower(
        world.deployment, [SETS["stock_now"]], KEEP_ALL, lambda: clock, SnapshotPace(), folder=tmp_path
    )

    def fail(*_: object) -> int:
        raise BrokenPromise("in the middle of a key")

    monkeypatch.setattr(follower.twins["stock_now"], "apply", fail)
    with pytest.raises(BrokenPromise):
        follower.take_in()
    follower.stop()
    assert not list(tmp_path.rglob("*.snapshot"))


def test_without_a_log_nothing_is_made(world: OnlineWorld, tmp_path: Path) -> None:
    empty = replace(world.deployment, layout=RootLayout(tmp_path / "empty"))
    with pytest.raises(StoreError, match="no journal"):
        TwinFollower(empty, [SETS["stock_now"]], KEEP_ALL, lambda: world.cutoffs(1)[0], SnapshotPace())
    assert not (tmp_path / "empty").exists()
