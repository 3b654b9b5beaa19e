"""The twin's feed against the silver table: the same rules, record by record, give the same ledger."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from replenish.cli.twin_feed import LedgerFeed, LedgerStep
from replenish.cli.twin_records import TwinRecords
from replenish.contracts.model import Column
from replenish.history.reposting import Change
from tests.unit.history.test_silver import RULE, SALES, data_set, frame, histories, sale, silver_after


def _feed(folder: Path, *, with_rule: bool, contract: Any = SALES) -> LedgerFeed:
    dataset = data_set(RULE) if with_rule else data_set(None)
    records = TwinRecords(folder / "records.sqlite")
    return LedgerFeed(None, None, {"sales": contract}, dataset, ["sales"], records)  # type: ignore[arg-type]


def _ledger(feed: LedgerFeed, batches: list[list[dict[str, Any]]], first: int = 0) -> pl.DataFrame | None:
    """The ledger that the steps from `first` on add up to."""
    ledger: pl.DataFrame | None = None
    for seq, rows in enumerate(batches, 1):
        step = feed.take_in(frame(rows), "sales", seq, f"chain {seq}")
        if ledger is None:
            assert step.removed.is_empty()
            ledger = step.added
            continue
        ledger = _changed(ledger, step)
    return ledger


def _changed(ledger: pl.DataFrame, step: LedgerStep) -> pl.DataFrame:
    kept = Change(step.added, step.removed).without_removed(ledger)
    assert kept.height == ledger.height - step.removed.height, "a posting is taken out that was not there"
    return pl.concat([kept, step.added])


def _assert_same(found: pl.DataFrame | None, silver: pl.DataFrame) -> None:
    assert found is not None
    assert_frame_equal(found, silver.select(found.columns), check_row_order=False)


@pytest.mark.parametrize("with_rule", [False, True])
def test_steps_add_up_to_the_silver_table(with_rule: bool) -> None:
    ops = "IIICCDX" if with_rule else "IID"

    @settings(max_examples=20, deadline=None)
    @given(batches=histories(ops=ops, n_customers=3))
    def steps_add_up(batches: list[list[dict[str, Any]]]) -> None:
        silver = silver_after(batches, data_set(RULE) if with_rule else data_set(None))
        with tempfile.TemporaryDirectory() as folder:
            _assert_same(_ledger(_feed(Path(folder), with_rule=with_rule), batches), silver)

    steps_add_up()


@settings(max_examples=20, deadline=None)
@given(batches=histories(ops="IIICCDX", n_customers=3), cuts=st.lists(st.integers(1, 4), min_size=1))
def test_places_that_are_taken_in_together_add_up_to_the_silver_table_too(
    batches: list[list[dict[str, Any]]], cuts: list[int]
) -> None:
    silver, ledger, start = silver_after(batches, data_set(RULE)), None, 0
    with tempfile.TemporaryDirectory() as folder:
        feed = _feed(Path(folder), with_rule=True)
        for width in itertools.cycle(cuts):
            together = batches[start : start + width]
            if not together:
                break
            start += len(together)
            step = feed.take_in(pl.concat([frame(rows) for rows in together]), "sales", start, f"chain {start}")
            ledger = step.added if ledger is None else _changed(ledger, step)
    _assert_same(ledger, silver)


@settings(max_examples=10, deadline=None)
@given(batches=histories(ops="IIICCDX", n_customers=3))
def test_the_same_place_brings_the_same_step_also_when_the_records_are_ahead(
    batches: list[list[dict[str, Any]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _ledger(_feed(Path(folder), with_rule=True), batches)
        again = _feed(Path(folder), with_rule=True)
        assert again._records.place == (len(batches), f"chain {len(batches)}")
        _assert_same(_ledger(again, batches), silver_after(batches, data_set(RULE)))


def test_the_first_cancellation_of_a_group_finds_sales_of_records_long_before(tmp_path: Path) -> None:
    batches = [
        [sale(1, units=5)],
        [sale(2, key=2, day=1, known=1, units=1)],
        [sale(3, key=101, day=2, known=2, op="C")],
    ]
    feed = _feed(tmp_path, with_rule=True)
    _assert_same(_ledger(feed, batches), silver_after(batches, data_set(RULE)))
    assert "cancellation" in _ledger(_feed(tmp_path, with_rule=True), batches)["posting_kind"]  # type: ignore[index]


def test_records_of_an_older_contract_are_null_in_columns_that_came_since(tmp_path: Path) -> None:
    older = replace(SALES, columns=tuple(c for c in SALES.columns if c.name != "customer_id"))
    rows = frame([sale(1, units=5)])
    _feed(tmp_path, with_rule=False, contract=older).take_in(rows.drop("customer_id"), "sales", 1, "")
    newer = _feed(tmp_path, with_rule=False)
    corrected = [sale(2, units=6, known=1, customer=None, is_correction=True)]
    step = newer.take_in(frame(corrected), "sales", 2, "")
    assert step.added.sort("posting_sign")["units"].to_list() == [5, 6]
    assert isinstance(SALES.column("customer_id"), Column)


def test_a_checkpoint_carries_what_is_committed_into_the_file_itself(tmp_path: Path) -> None:
    feed = _feed(tmp_path / "records", with_rule=False)
    _ledger(feed, [[sale(1, units=5)], [sale(2, units=6, known=1, is_correction=True)]])
    copied = tmp_path / "copied"
    copied.mkdir()
    feed._records.checkpoint()
    # Without the log of writes beside it: what a machine that lost power is sure to have.
    shutil.copy(tmp_path / "records" / "records.sqlite", copied)
    assert TwinRecords(copied / "records.sqlite").place == (2, "chain 2")


def test_a_damaged_file_of_records_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"no database, but long enough to be one" * 100)
    assert TwinRecords(path).place == (0, "")
