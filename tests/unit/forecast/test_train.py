from dataclasses import replace
from datetime import timedelta

import polars as pl

from replenish.forecast.block_models import n_fits
from replenish.forecast.inputs import read_inputs
from replenish.forecast.train import train_model
from tests.unit.forecast.conftest import ORIGIN


def test_one_and_two_threads_give_equal_model_texts(lake, profile):
    inputs = read_inputs(lake, profile)
    one = train_model(inputs, profile, ORIGIN, num_threads=1)
    assert train_model(inputs, profile, ORIGIN, num_threads=2).files == one.files


def test_the_order_of_the_input_rows_does_not_matter(lake, profile):
    inputs = read_inputs(lake, profile)
    shuffled = replace(
        inputs, demand=inputs.demand.reverse(), features=inputs.features.sample(fraction=1.0, shuffle=True, seed=4)
    )
    assert train_model(shuffled, profile, ORIGIN).files == train_model(inputs, profile, ORIGIN).files


def test_what_becomes_known_after_the_training_origin_changes_nothing(lake, profile):
    inputs = read_inputs(lake, profile)
    origin = ORIGIN - timedelta(days=40)
    later = pl.col("knowledge_date") > origin
    exploded = inputs.demand.with_columns(pl.when(later).then(pl.col("units") * 1000).otherwise("units").alias("units"))
    # A late correction of an early day, known one day too late for this training.
    correction = inputs.demand.head(5).with_columns(knowledge_date=pl.lit(origin + timedelta(days=1)), units=999)
    features = inputs.features.with_columns(
        pl.when(pl.col("origin_date") >= origin).then(-1).otherwise(pl.col("units_lag_1")).alias("units_lag_1")
    )
    shifted = replace(inputs, demand=pl.concat([exploded, correction], how="vertical_relaxed"), features=features)
    assert train_model(shifted, profile, origin).files == train_model(inputs, profile, origin).files


def test_a_correction_known_in_time_does_change_the_model(lake, profile):
    inputs = read_inputs(lake, profile)
    known = inputs.demand.filter(pl.col("event_date") > ORIGIN - timedelta(days=90)).with_columns(units=pl.lit(50))
    corrected = replace(inputs, demand=pl.concat([inputs.demand, known], how="vertical_relaxed"))
    assert train_model(corrected, profile, ORIGIN).files != train_model(inputs, profile, ORIGIN).files


def test_a_day_that_sold_out_is_no_training_target(lake, profile):
    inputs = read_inputs(lake, profile)
    closed = inputs.demand.select("sku_id", "location_id", "event_date", "knowledge_date").unique()
    stock = closed.filter(pl.col("sku_id") == "A01").with_columns(
        event_time=pl.col("event_date").cast(pl.Datetime("us", "UTC")),
        on_hand_units=pl.lit(0),
        version_nr=pl.lit(1),
        posting_sign=pl.lit(1),
    )
    with_stock = train_model(replace(inputs, stock=stock), profile, ORIGIN)
    without = train_model(inputs, profile, ORIGIN)
    assert with_stock.card.n_rows < without.card.n_rows


def test_model_texts_name_no_thread_count(lake, profile):
    files = train_model(read_inputs(lake, profile), profile, ORIGIN).files
    assert all("[num_threads: 0]" in text for text in files.values())
    assert len(files) == n_fits(profile, 1) == 12
