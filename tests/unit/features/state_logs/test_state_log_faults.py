"""Stored state logs: what they survive, when they are built anew, what a late arrival touches, and what they answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.bitemporal import as_of_join
from replenish.errors import TableMissing
from replenish.features.state_logs import full_build, update
from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition, silver_postings
from replenish.features.state_logs.full_build import StateLogLimits
from replenish.features.state_logs.look_up import log_parts, read_state_log, stored_as_of_join
from replenish.features.state_logs.update import update_state_log, update_state_logs
from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import compact
from tests.unit.features.offline.test_evaluator import feature, set_of
from tests.unit.features.state_logs.growing_ledger import SOURCE as LEDGER
from tests.unit.features.state_logs.growing_ledger import drawn_histories, ledgers_by_arrival, log_of, write_as_silver
from tests.unit.features.state_logs.test_state_log_update import SMALL, log_from_nothing

SALES = PostingsTable("silver/sales")
LOG = StateLogDefinition("sales", "sales", ("sku_id",), ("fact_id",), (("units", "integer"),))
JANUARY = datetime(2025, 1, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path / "lake")


def posting(sku: str, fact: str, event: datetime, known: datetime, units: int, **fields: object) -> dict[str, object]:
    row = {"sku_id": sku, "fact_id": fact, "event_time": event, "event_date": event.date(), "knowledge_time": known}
    return row | {"version_nr": 1, "posting_kind": "version", "posting_sign": 1, "units": units} | fields


def postings(*rows: dict[str, object]) -> pl.DataFrame:
    clocks = {"event_time": pl.Datetime("us", "UTC"), "knowledge_time": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema_overrides={**clocks, "version_nr": pl.Int32(), "posting_sign": pl.Int32()})


def history(n_days: int = 80, skus: str = "abcd") -> pl.DataFrame:
    """One sale a day of each article, known an hour later."""
    days = [JANUARY + nr * DAY for nr in range(n_days)]
    rows = [posting(sku, f"{sku}{d:%m%d}", d, d + timedelta(hours=1), nr) for nr, d in enumerate(days) for sku in skus]
    return postings(*rows)


ROOMY = replace(SMALL, rows_per_bucket=100)
"""Four buckets for the history of four articles."""


def test_an_update_without_news_writes_nothing(lake: DeltaLake) -> None:
    lake.append(SALES.table, history())
    first = update_state_log(lake, LOG, SALES, limits=ROOMY)
    again = update_state_log(lake, LOG, SALES, limits=ROOMY)
    assert first.is_full_build
    assert not again.is_full_build
    assert again.commit == first.commit


def test_a_late_arrival_reaches_the_month_of_its_knowledge_in_its_bucket(lake: DeltaLake) -> None:
    lake.append(SALES.table, history())
    before = update_state_log(lake, LOG, SALES, limits=ROOMY)
    files = set(lake.file_paths(LOG.table))
    last = JANUARY + 80 * DAY
    # An event of the first month that nobody knew until the third: other entities, and what was known, stay.
    lake.append(SALES.table, postings(posting("a", "late", JANUARY, last, 5), posting("b", "new", last, last, 6)))
    after = update_state_log(lake, LOG, SALES, limits=ROOMY)
    assert (after.n_rows_added, after.n_rows_removed, after.n_partitions) == (1, 0, 1)
    assert files < set(lake.file_paths(LOG.table))
    assert after.commit.n_rows == before.commit.n_rows + 1
    # Taken back: the months from then on, in that bucket alone.
    gone = posting("b", "new", last, last + DAY, 6, posting_kind="reversal", posting_sign=-1)
    lake.append(SALES.table, postings(gone))
    taken_back = update_state_log(lake, LOG, SALES, limits=ROOMY)
    assert (taken_back.n_entities_from_postings, taken_back.n_rows_added, taken_back.n_rows_removed) == (1, 1, 0)
    whole = lake.read(SALES.table)
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, whole))


def test_a_plan_that_is_overtaken_is_written_anew_in_its_partition_alone(lake: DeltaLake) -> None:
    last = JANUARY + 60 * DAY
    plan = posting("a", "plan", last + 90 * DAY, JANUARY, 7)
    lake.append(SALES.table, pl.concat([history(60), postings(plan)]))
    update_state_log(lake, LOG, SALES, limits=ROOMY)
    files = set(lake.file_paths(LOG.table))
    # A plan for the same instant, made later, takes its place.
    lake.append(SALES.table, postings(posting("a", "zplan", last + 90 * DAY, last, 8)))
    after = update_state_log(lake, LOG, SALES, limits=ROOMY)
    assert (after.n_rows_added, after.n_rows_removed, after.n_partitions) == (1, 1, 1)
    assert len(files - set(lake.file_paths(LOG.table))) == 1
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, lake.read(SALES.table)))


def test_killed_after_its_commit_an_update_is_not_done_twice(lake: DeltaLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(SALES.table, history(40))
    update_state_log(lake, LOG, SALES, limits=ROOMY)
    lake.append(SALES.table, postings(posting("a", "new", JANUARY + 50 * DAY, JANUARY + 50 * DAY, 1)))
    with monkeypatch.context() as killed:
        killed.setattr(update, "compact_when_due", _killed)
        with pytest.raises(KeyboardInterrupt):
            update_state_log(lake, LOG, SALES, limits=ROOMY)
    inside = lake.state(LOG.table)
    assert update_state_log(lake, LOG, SALES, limits=ROOMY).commit == inside
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, lake.read(SALES.table)))


@pytest.mark.parametrize("n_done", [0, 1, 2])
def test_a_killed_build_leaves_the_log_that_was_there(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch, n_done: int
) -> None:
    lake.append(SALES.table, history(40))
    update_state_log(lake, LOG, SALES, limits=ROOMY)
    before = read_state_log(lake, LOG)
    lake.append(SALES.table, history(80).tail(160))
    anew = replace(ROOMY, most_changed=0.0)
    commits = full_build._commits

    def few(*arguments: object) -> object:
        for nr, frame in enumerate(commits(*arguments)):  # type: ignore[arg-type]
            if nr == n_done:
                raise KeyboardInterrupt
            yield frame

    with monkeypatch.context() as killed:
        killed.setattr(full_build, "_commits", few)
        with pytest.raises(KeyboardInterrupt):
            update_state_log(lake, LOG, SALES, limits=anew)
    assert_frame_equal(read_state_log(lake, LOG), before)
    # What was begun is in no one's way; the commit that began it says that the log before was to be replaced.
    assert update_state_log(lake, LOG, SALES, limits=ROOMY).is_full_build == (n_done > 0)
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, lake.read(SALES.table)))
    lake.append(SALES.table, postings(posting("a", "new", JANUARY + 90 * DAY, JANUARY + 90 * DAY, 1)))
    assert update_state_log(lake, LOG, SALES, limits=anew).is_full_build
    assert len({part.build for part in log_parts(lake, LOG)}) == 1
    assert lake.state(LOG.table).n_rows == read_state_log(lake, LOG).height


def test_a_first_build_that_was_killed_is_no_log(lake: DeltaLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(SALES.table, history(40))
    with monkeypatch.context() as killed:
        killed.setattr(DeltaLake, "row_count", lambda *_: 40_000)
        killed.setattr(full_build, "LogBuild", _killed)
        killed.setattr(full_build, "through_app", _killed)
        with pytest.raises(KeyboardInterrupt):
            update_state_log(lake, LOG, SALES, limits=ROOMY)
    with pytest.raises(TableMissing, match="built to the end"):
        read_state_log(lake, LOG)
    assert update_state_log(lake, LOG, SALES, limits=ROOMY).is_full_build
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, lake.read(SALES.table)))


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_source_made_anew_leads_to_a_build(tmp_path: Path, lake: DeltaLake) -> None:
    lake.append(SALES.table, history(40))
    lake.append(SALES.table, history(42).tail(8))
    update_state_log(lake, LOG, SALES, limits=ROOMY)
    first = lake.path(SALES.table)
    aside = first.rename(tmp_path / "aside")
    # The new table is at the version that the log knows of the old one, and holds other rows.
    rebuilt = DeltaLake(lake.root)
    rebuilt.append(SALES.table, history(30))
    rebuilt.append(SALES.table, history(31).tail(4))
    assert update_state_log(rebuilt, LOG, SALES, limits=ROOMY).is_full_build
    assert_frame_equal(read_state_log(rebuilt, LOG), log_from_nothing(LOG, history(31)))
    # Put back, the old one is not taken for what is in the log.
    first.rename(tmp_path / "rebuilt")
    aside.rename(first)
    restored = DeltaLake(lake.root)
    assert update_state_log(restored, LOG, SALES, limits=ROOMY).is_full_build
    assert_frame_equal(read_state_log(restored, LOG), log_from_nothing(LOG, history(42)))


def test_an_overwritten_source_leads_to_a_build_and_a_merged_one_to_nothing(lake: DeltaLake) -> None:
    for nr in range(4):
        lake.append(SALES.table, history(40 + nr).tail(4 if nr else 160))
    update_state_log(lake, LOG, SALES)
    rows = read_state_log(lake, LOG)
    assert compact(lake, SALES.table, every=1)
    merged = update_state_log(lake, LOG, SALES, limits=ROOMY)
    assert (merged.is_full_build, merged.n_changed_postings, merged.commit.n_rows) == (False, 0, rows.height)
    lake.overwrite(SALES.table, history(20))
    assert update_state_log(lake, LOG, SALES).is_full_build
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, history(20)))


def test_another_definition_has_another_log(lake: DeltaLake) -> None:
    lake.append(SALES.table, history(10).with_columns(channel=pl.lit("shop")))
    wider = replace(LOG, values=(("channel", "string"), *LOG.values))
    assert (
        len({one.table for one in (LOG, wider, replace(LOG, entity=("fact_id",)), replace(LOG, stream="other"))}) == 4
    )
    for log in (LOG, wider):
        assert update_state_log(lake, log, SALES).is_full_build
        assert not update_state_log(lake, log, SALES).is_full_build


def test_a_log_of_more_postings_than_memory_may_hold_is_the_same(lake: DeltaLake) -> None:
    lake.append(SALES.table, history())
    tight = StateLogLimits(rows_per_bucket=50, postings_at_once=100, rows_per_commit=70)
    assert update_state_log(lake, LOG, SALES, limits=tight).is_full_build
    assert_frame_equal(read_state_log(lake, LOG), log_from_nothing(LOG, history()))
    assert not [path for path in lake.root.parent.glob("staged/**/*") if path.is_file()]


def test_columns_may_have_other_names_and_types_in_silver(lake: DeltaLake) -> None:
    lake.append("silver/sales", history(5).rename({"units": "quantity"}).with_columns(pl.col("quantity").cast(pl.Int8)))
    feature_set = set_of(feature("units", "last"), feature("units_7", "sum", window_days=7), clock="instant")
    (source,) = feature_set.sources
    columns = tuple(replace(c, from_column="quantity") if c.name == "units" else c for c in source.columns)
    feature_set = replace(feature_set, sources=(replace(source, columns=columns),))
    assert silver_postings(feature_set.sources[0]) == PostingsTable("silver/sales", (("units", "quantity"),))
    (done,) = update_state_logs(lake, feature_set)
    assert done.commit.n_rows == 20
    assert read_state_log(lake, LOG).schema["units"] == pl.Int64


@pytest.mark.parametrize("seed", range(300, 306))
def test_a_stored_look_up_is_the_as_of_join(lake: DeltaLake, seed: int) -> None:
    setting, histories = drawn_histories(seed)
    definition = log_of(setting)
    for ledger in ledgers_by_arrival(setting, histories, seed, n_steps=2):
        write_as_silver(lake, ledger)
        update_state_log(lake, definition, LEDGER, limits=SMALL)
    rows = [(*entity[: setting.n_entity], as_of) for one in histories for entity, as_of in one.spine]
    spine = pl.DataFrame(rows, schema=[*definition.entity, "as_of"], orient="row").with_columns(
        pl.col("as_of").dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    )
    for time_to_live in (None, timedelta(days=3)):
        options = {"as_of": "as_of", "values": ["units", "channel"], "time_to_live": time_to_live}
        found = stored_as_of_join(spine, lake, definition, **options)  # type: ignore[arg-type]
        log = log_from_nothing(definition, ledger)
        assert_frame_equal(found, as_of_join(spine, log, key=definition.entity, **options))  # type: ignore[arg-type]
