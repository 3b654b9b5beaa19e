"""The panel form: against the oracle and the sparse form, and what it bounds, keeps and refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.offline.evaluator import evaluate
from replenish.features.panel.evaluator import evaluate_panel
from replenish.features.panel.grid import PanelBlock, PanelGrid
from tests.oracle.compare import batch_of, compare, first_mismatch, judged
from tests.oracle.histories import cases
from tests.oracle.range_join import Question
from tests.unit.features.panel.panel_question import answered_by_panel, at_cutoffs, gridded

BERLIN, SIX = "Europe/Berlin", time(6)
FIRST = date(2025, 3, 20)
"""Ten days before a night of 23 hours in Berlin."""
FORMS: dict[str, Callable[[Question], pl.DataFrame]] = {
    "in memory": answered_by_panel,
    "lazy, two threads": partial(answered_by_panel, is_lazy=True, workers=2),
    "sorted": partial(answered_by_panel, is_sorted=True),
    "in one block": partial(answered_by_panel, series_per_block=1_000),
    "one series at a time": partial(answered_by_panel, series_per_block=1, is_sorted=True),
}


@pytest.mark.parametrize(("seeds", "n_origins"), [(range(9_300, 9_316), 5), (range(9_316, 9_324), 40)])
def test_every_value_of_a_panel_is_the_oracles(seeds: range, n_origins: int) -> None:
    done = compare(answered_by_panel, [gridded(batch_of(seed), n_origins, 3) for seed in seeds])
    assert not done.n_wrong, str(done.mismatch)
    assert done.n_values > 30_000


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_ledger_gives_the_oracles_values(form: str) -> None:
    done = compare(FORMS[form], [gridded(batch_of(seed), 4, 4) for seed in range(9_330, 9_334)])
    assert not done.n_wrong, str(done.mismatch)


@given(cases())
@settings(max_examples=30, deadline=None)
def test_a_drawn_history_gives_the_oracles_values(case: tuple) -> None:  # type: ignore[type-arg]
    setting, features, history = case
    batch = judged(0, setting, features, [at_cutoffs(history, setting, 0, 6)])
    mismatch = first_mismatch(answered_by_panel, batch)
    assert mismatch is None, str(mismatch)


def daily_set(*, grain: str = "postings", greatest_window: int = 56) -> FeatureSet:
    """Every aggregation of daily totals, with windows, offsets and denominators, and a latest value."""
    features: list[FeatureDefinition] = []

    def add(name: str, aggregation: str, **fields: object) -> None:
        fields = {"source": "sales", "value": "units", **fields}
        features.append(FeatureDefinition(name, aggregation, unit="", description="", **fields))  # type: ignore[arg-type]

    for days, offset in ((1, 0), (7, 0), (13, 3), (28, 0), (greatest_window, 1)):
        for kind in ("sum", "count", "count_nonzero", "min", "max"):
            add(f"{kind}_{days}_{offset}", kind, window_days=days, offset_days=offset)
        for kind in ("mean", "std"):
            for per in ("calendar", "observed", "since_first"):
                name = f"{kind}_{days}_{offset}_{per}"
                add(name, kind, window_days=days, offset_days=offset, denominator=per)
    for days in (1, 7, 30):
        add(f"lag_{days}", "lag", lag_days=days)
        add(f"lag_{days}_observed", "lag", lag_days=days, denominator="observed")
    add("since", "days_since")
    add("age", "days_since_first")
    if grain == "postings":
        add("newest", "last")
    add("ratio", "ratio", source=None, value=None, numerator="sum_7_0", denominator_feature="mean_28_0_observed")
    source = FeatureSource("sales", "gold/fct_sales", "sales", ("fact_id",), (SourceColumn("units", "units", "units"),))
    if grain == "increments":
        source = replace(source, grain="increments", lines="lines")
    return FeatureSet("panel", "1.0.0", "", "", "daily", ("sku_id", "location_id"), (source,), tuple(features))


def drawn_ledger(seed: int, n_facts: int, n_series: int, greatest: int) -> pl.DataFrame:
    """Facts over 130 days, a fifth of them late, some corrected, retracted or null, of skus `s0..` at one location."""
    chance = np.random.default_rng(seed)
    midnight = datetime(2025, 1, 1, tzinfo=UTC)
    rows = []
    for nr in range(n_facts):
        key = (f"s{int(chance.integers(n_series))}", "x")
        event = midnight + timedelta(hours=int(chance.integers(0, 130 * 24)))
        known = event + timedelta(hours=int(chance.integers(0, 20 * 24 if chance.random() < 0.2 else 10)))
        for version in range(1, 4):
            units = None if chance.random() < 0.1 else int(chance.integers(-greatest // 3, greatest))
            fact = (*key, f"f{nr}", event, event.date(), version, units)
            rows.append((*fact, known, "version", 1))
            if chance.random() < 0.7:
                break
            known += timedelta(hours=int(chance.integers(1, 30 * 24)))
            rows.append((*fact, known, "reversal", -1))
            if chance.random() < 0.3:
                break
    names = ["sku_id", "location_id", "fact_id", "event_time", "event_date", "version_nr", "units"]
    frame = pl.DataFrame(rows, schema=[*names, "knowledge_time", "posting_kind", "posting_sign"], orient="row")
    return frame.with_columns(pl.col("event_time", "knowledge_time").cast(pl.Datetime("us", "UTC")))


def grid_from(first: date, n_origins: int, n_series: int) -> PanelGrid:
    keys = pl.DataFrame({"sku_id": [f"s{nr}" for nr in range(n_series)]}, {"sku_id": pl.String}).with_columns(
        location_id=pl.lit("x")
    )
    return PanelGrid(keys, first, n_origins)


def whole(blocks: list[PanelBlock]) -> pl.DataFrame:
    return pl.concat([block.frame() for block in blocks])


@pytest.mark.parametrize("greatest", [9, 900, 5_000_000, 2**33])
@pytest.mark.parametrize(("first", "n_origins"), [(FIRST, 30), (date(2024, 12, 20), 160), (date(2025, 5, 20), 1)])
def test_a_panel_is_the_sparse_form_row_by_row(greatest: int, first: date, n_origins: int) -> None:
    ledger, grid = drawn_ledger(greatest % 97, 700, 6, greatest), grid_from(first, n_origins, 7)
    features = daily_set()
    blocks = list(evaluate_panel(features, grid, {"sales": ledger}, BERLIN, SIX, series_per_block=3))
    assert [block.series.height for block in blocks] == [3, 3, 1]
    found = whole(blocks)
    expected = evaluate(features, found.select("sku_id", "location_id", "as_of"), {"sales": ledger}, BERLIN, SIX)
    assert found.schema == expected.schema
    assert found.equals(expected)


def test_increments_give_what_their_postings_give() -> None:
    ledger, grid = drawn_ledger(5, 500, 4, 50), grid_from(FIRST, 40, 4)
    features = daily_set(grain="increments")
    cutoffs = whole(
        list(
            evaluate_panel(
                features.on_postings(),
                grid_from(date(2024, 12, 30), 190, 1),
                {"sales": ledger.with_columns(lines=1)},
                BERLIN,
                SIX,
            )
        )
    )["as_of"]
    places = cutoffs.search_sorted(ledger["knowledge_time"], "left")
    known = pl.Series(np.datetime64("2024-12-30") + places.to_numpy().astype("timedelta64[D]")).cast(pl.Date)
    sign = pl.col("posting_sign").cast(pl.Int64)
    increments = (
        ledger.with_columns(knowledge_date=known)
        .group_by("sku_id", "location_id", "event_date", "knowledge_date")
        .agg(units=(sign * pl.col("units")).sum(), lines=sign.filter(pl.col("units").is_not_null()).sum())
    )
    from_sums = whole(list(evaluate_panel(features, grid, {"sales": increments}, BERLIN, SIX)))
    from_postings = whole(list(evaluate_panel(features.on_postings(), grid, {"sales": ledger}, BERLIN, SIX)))
    assert from_sums.equals(from_postings)


def test_values_have_the_types_that_their_source_declares() -> None:
    ledger, grid = drawn_ledger(6, 300, 2, 5), grid_from(FIRST, 9, 2)
    ledger = ledger.with_columns(is_odd=pl.col("units") % 2 == 1)
    features = daily_set()
    columns = (SourceColumn("units", "units", "units", "number"), SourceColumn("is_odd", "is_odd", "flag", "integer"))
    newest = tuple(
        replace(features.feature("newest"), name=f"newest_{name}", value=name) for name in ("units", "is_odd")
    )
    odd = replace(features.feature("sum_7_0"), value="is_odd")
    asked = replace(features, sources=(replace(features.sources[0], columns=columns),), features=(*newest, odd))
    found = whole(list(evaluate_panel(asked, grid, {"sales": ledger}, BERLIN, SIX)))
    assert list(found.schema.values())[3:] == [pl.Float64, pl.Int64, pl.Int64]
    spine = found.select("sku_id", "location_id", "as_of")
    assert found.equals(evaluate(asked, spine, {"sales": ledger}, BERLIN, SIX))
    assert found["sum_7_0"].sum() > 0


def test_integers_are_as_narrow_as_they_may_be_and_frames_have_them_wide() -> None:
    for greatest, dtype in ((9, np.int16), (2_000_000, np.int32), (2**40, np.int64)):
        ledger = drawn_ledger(3, 200, 2, greatest)
        (block,) = evaluate_panel(daily_set(), grid_from(FIRST, 9, 2), {"sales": ledger}, BERLIN, SIX)
        assert block.features["sum_28_0"].values.dtype == dtype
        assert block.features["sum_28_0"].values.shape == (2, 9)
        assert block.frame().schema["sum_28_0"] == pl.Int64


def test_a_day_that_a_zone_leaves_out_is_asked_as_the_one_that_has_its_cutoff() -> None:
    # Samoa had no 30 December 2011: its cut-off is that of the 31st.
    ledger = drawn_ledger(8, 300, 2, 9).with_columns(
        pl.col("event_date").dt.offset_by("-1170d"), pl.col("event_time", "knowledge_time").dt.offset_by("-1170d")
    )
    for first, n_origins in ((date(2011, 12, 20), 20), (date(2011, 12, 30), 1), (date(2011, 12, 28), 3)):
        grid = grid_from(first, n_origins, 2)
        found = whole(list(evaluate_panel(daily_set(), grid, {"sales": ledger}, "Pacific/Apia", SIX)))
        spine = found.select("sku_id", "location_id", "as_of")
        assert spine.height == 2 * n_origins
        assert found.equals(evaluate(daily_set(), spine, {"sales": ledger}, "Pacific/Apia", SIX))


def test_a_block_reads_only_its_own_rows_of_a_sorted_file(tmp_path: Path) -> None:
    ledger = drawn_ledger(4, 2_000, 40, 9).sort("sku_id", "location_id")
    ledger.write_parquet(tmp_path / "ledger.parquet", row_group_size=100)
    read: list[int] = []

    def counted(rows: pl.DataFrame) -> pl.DataFrame:
        read.append(rows.height)
        return rows

    lazy = pl.scan_parquet(tmp_path / "ledger.parquet").map_batches(counted, predicate_pushdown=True)
    grid = grid_from(FIRST, 9, 40)
    blocks = list(evaluate_panel(daily_set(), grid, {"sales": lazy}, BERLIN, SIX, series_per_block=4))
    assert len(read) == len(blocks) == 10
    assert max(read) < ledger.height / 4
    assert whole(blocks).equals(whole(list(evaluate_panel(daily_set(), grid, {"sales": ledger}, BERLIN, SIX))))


def test_what_is_no_panel_is_refused_with_its_names() -> None:
    ledger, features = drawn_ledger(1, 50, 2, 9), daily_set()

    def refused(match: str, grid: PanelGrid, **ledgers: pl.DataFrame) -> None:
        with pytest.raises(OutOfRange, match=match):
            list(evaluate_panel(features, grid, ledgers or {"sales": ledger}, BERLIN, SIX))

    good = grid_from(FIRST, 2, 2)
    refused("grid lacks columns.*location_id", PanelGrid(good.series.drop("location_id"), FIRST, 2))
    refused("names a series twice.*'s1', 'x'", PanelGrid(pl.concat([good.series, good.series[1:]]), FIRST, 2))
    refused("has no ledger.*sales", good, other=ledger)
    refused(
        "rows without a clock", good, sales=ledger.with_columns(knowledge_time=pl.lit(None, pl.Datetime("us", "UTC")))
    )
    refused("leave 64 bits", good, sales=ledger.with_columns(units=pl.lit(2**61)))
    with pytest.raises(OutOfRange, match="at least one origin"):
        grid_from(FIRST, 0, 1)
    assert not list(evaluate_panel(features, grid_from(FIRST, 2, 0), {"sales": ledger}, BERLIN, SIX))
