"""The built-in retailer's drop files: every record once, in the file of the day it was recorded; true in the end."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_files import files_of_day, write_day, write_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.outcomes.retailer_records import recorded_day

PLAN = RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=90, n_extra_days=10)
STREAMS = {
    "sales": "store,receipt,line,sold_at,article,qty,amount,customer,op,recorded_at",
    "prices": "store,article,valid_from,price,promo,recorded_at",
    "stock": "store,article,counted_at,on_hand,recorded_at",
    "orders": "po,line,supplier,store,article,ordered_at,promised_at,qty,recorded_at",
    "receipts": "receipt,po,line,store,article,received_at,qty,recorded_at",
}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(PLAN)


@pytest.fixture(scope="module")
def clean() -> World:
    return build_world(replace(PLAN, with_faults=False))


@pytest.fixture(scope="module")
def drop(world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drop")
    write_world(folder, world)
    for day in range(PLAN.n_days, PLAN.n_world_days):
        write_day(folder, world, day)
    return folder


def read_stream(folder: Path, name: str) -> pl.DataFrame:
    files = sorted(folder.glob(f"{name}-*.csv"), key=lambda path: path.stem)
    return pl.concat([pl.read_csv(path, infer_schema=False) for path in files])


def known_sales(records: pl.DataFrame) -> pl.DataFrame:
    """The last word on each line; lines taken back are gone."""
    last = records.sort("recorded_at").group_by("store", "receipt", "line").last()
    kept = last.filter(pl.col("op") == "I").with_columns(
        pl.col("sold_at").str.slice(0, 10).str.to_date(), pl.col("qty").cast(pl.Int64)
    )
    return kept.group_by(sku_id="article", location_id="store", event_date="sold_at").agg(units=pl.col("qty").sum())


@pytest.mark.parametrize("name", STREAMS)
def test_files_have_the_columns_of_their_feed(drop, name):
    headers = {path.read_text().splitlines()[0] for path in drop.glob(f"{name}-*.csv")}
    assert headers == {STREAMS[name]}


@pytest.mark.parametrize("name", STREAMS)
def test_every_record_is_in_exactly_one_file(world, drop, name):
    within = world.records[name].filter(pl.col("recorded_day") < PLAN.n_world_days).drop("recorded_day")
    assert_frame_equal(read_stream(drop, name), within, check_row_order=True)


@pytest.mark.parametrize("name", STREAMS)
def test_a_daily_file_holds_what_was_recorded_that_day(drop, name):
    for path in drop.glob(f"{name}-????-??-??.csv"):
        midnight = datetime.combine(date.fromisoformat(path.stem[-10:]), datetime.min.time(), BERLIN)
        for text in pl.read_csv(path, infer_schema=False)["recorded_at"]:
            assert midnight < datetime.fromisoformat(text) <= midnight + timedelta(days=1)


def test_a_record_of_midnight_belongs_to_the_day_that_ends():
    assert recorded_day(np.array([1, 86_400, 86_401])).tolist() == [0, 0, 1]


def test_a_month_has_monthly_or_daily_files_but_never_both(drop):
    stems = {path.stem for path in drop.glob("sales-*.csv")}
    monthly = {stem for stem in stems if len(stem) == len("sales-2024-01")}
    assert monthly
    assert not any(stem.startswith(f"{month}-") for stem in stems for month in monthly)


def test_the_same_world_gives_the_same_bytes(world, drop, tmp_path):
    written = write_world(tmp_path, build_world(PLAN))
    assert len(written) > 30
    assert all(path.read_bytes() == (drop / path.name).read_bytes() for path in written)


def test_times_carry_the_offset_of_the_shop(world):
    sold = world.records["sales"]["sold_at"]
    assert set(sold.str.slice(-6)) == {"+01:00", "+02:00"}
    hours = sold.str.slice(11, 2).cast(pl.Int64)
    assert hours.min() >= 8
    assert hours.max() < 20


def test_nothing_is_recorded_before_it_happened_except_planned_prices(world):
    for name, column in (("sales", "sold_at"), ("stock", "counted_at"), ("orders", "ordered_at")):
        records = world.records[name].select(pl.col(column, "recorded_at").str.to_datetime(time_zone="UTC"))
        assert (records["recorded_at"] > records[column]).all(), name
    prices = world.records["prices"].select(pl.col("valid_from", "recorded_at").str.to_datetime(time_zone="UTC"))
    assert (prices["recorded_at"] < prices["valid_from"]).all()


def test_what_is_known_in_the_end_is_what_was_sold(clean):
    settled = PLAN.first_date + timedelta(days=PLAN.n_days - 20)
    known = known_sales(clean.records["sales"]).filter(pl.col("event_date") < settled)
    truth = clean.truth.filter((pl.col("sales_units") > 0) & (pl.col("event_date") < settled))
    key = ["sku_id", "location_id", "event_date"]
    assert_frame_equal(known.sort(key), truth.select(*key, units="sales_units").sort(key))


def test_late_corrected_and_retracted_records_all_occur(clean):
    sales = clean.records["sales"]
    late = sales.filter(pl.col("sold_at").str.slice(0, 10) < pl.col("recorded_at").str.slice(0, 10))
    versions = sales.filter(pl.col("op") == "I").group_by("store", "receipt", "line").len()
    assert late.height > 0.01 * sales.height
    assert (versions["len"] == 2).any()
    assert (sales["op"] == "D").any()


def test_a_retraction_follows_the_record_it_takes_back(clean):
    sales = clean.records["sales"]
    key = ["store", "receipt", "line"]
    pairs = sales.filter(pl.col("op") == "D").join(sales.filter(pl.col("op") == "I"), on=key, suffix="_first")
    assert pairs.height == (sales["op"] == "D").sum()
    assert (pairs["recorded_day"] > pairs["recorded_day_first"]).all()


def test_a_clean_world_has_no_planted_faults(clean):
    assert clean.faults.absurd_sku_id is None
    assert clean.records["sales"]["qty"].str.contains(r"^\d+$").all()
    assert clean.records["sales"].is_unique().all()


def test_the_absurd_sale_of_the_last_day_is_mended_the_morning_after(world):
    last, after = (files_of_day(world, day) for day in (PLAN.n_days - 1, PLAN.n_days))
    name = f"sales-{PLAN.first_date + timedelta(days=PLAN.n_days - 1)}.csv"
    absurd = last[name].filter(pl.col("qty").str.contains(r"^\d+000$"))
    assert absurd["article"].to_list() == [world.faults.absurd_sku_id]
    mended = next(rows for file, rows in after.items() if file.startswith("sales-")).join(
        absurd, on=["store", "receipt", "line"], suffix="_absurd"
    )
    assert (mended["qty"] + "000").to_list() == mended["qty_absurd"].to_list()
    assert mended.height == 1


def test_one_location_is_silent_for_three_days_and_then_catches_up(world):
    stock = world.records["stock"].filter(pl.col("store") == world.faults.silent_location_id)
    known_at_origin = stock.filter(pl.col("recorded_day") < PLAN.n_days)
    newest = date.fromisoformat(known_at_origin["counted_at"].max()[:10])
    assert newest == PLAN.first_date + timedelta(days=PLAN.n_days - 4)
    counted = stock["counted_at"].str.slice(0, 10).n_unique()
    assert counted == PLAN.n_world_days


def test_faulty_rows_are_as_many_as_planted(world):
    sales, prices = (world.records[name].filter(pl.col("recorded_day") < PLAN.n_days) for name in ("sales", "prices"))
    assert (sales["qty"] == "two").sum() == world.faults.n_text_quantities >= 1
    assert sales.height - sales.unique().height == world.faults.n_repeated_rows >= 1
    assert prices["price"].str.starts_with("-").sum() == world.faults.n_negative_prices == 3


def test_a_broken_row_is_a_copy_and_hides_no_true_one(world, clean):
    key = ["store", "receipt", "line", "recorded_at"]
    is_whole = pl.col("qty") != "two"
    unbroken = world.records["sales"].filter(is_whole).select(key).unique()
    missing = clean.records["sales"].select(key).join(unbroken, on=key, how="anti")
    assert missing.is_empty()


def test_every_feed_finds_its_files_and_all_its_columns(drop):
    dataset = read_dataset(Path(PLATFORM_FOLDER) / "feeds" / "retailer.yaml")
    for feed in dataset.feeds:
        files = [path for pattern in feed.files for path in drop.glob(pattern)]
        assert files, feed.feed_id
        header = set(files[0].read_text().splitlines()[0].split(","))
        needed = {rule.column for rule in feed.columns.values() if rule.column is not None} | {feed.knowledge.column}
        assert needed - {None} <= header, feed.feed_id
