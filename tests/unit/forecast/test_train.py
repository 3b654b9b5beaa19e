from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl

from replenish.forecast.block_models import n_fits
from replenish.forecast.inputs import read_inputs
from replenish.forecast.panel import build_panel
from replenish.forecast.train import card_from_json, demand_of, train_model
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


def test_a_day_that_sold_out_is_no_target_where_nobody_estimated_it(lake, profile):
    inputs, _ = sold_out_world(lake, profile)
    with_stock = train_model(inputs, profile, ORIGIN)
    without = train_model(replace(inputs, stock=None), profile, ORIGIN)
    assert with_stock.card.n_rows < without.card.n_rows


def sold_out_world(lake, profile):
    """Inputs in which one article sold out on all of its days, and what three units more on each would be."""
    inputs = read_inputs(lake, profile)
    closed = inputs.demand.select("sku_id", "location_id", "event_date", "knowledge_date").unique()
    closed = closed.filter(pl.col("sku_id") == "A01")
    stock = closed.with_columns(
        event_time=pl.col("event_date").cast(pl.Datetime("us", "UTC")),
        on_hand_units=pl.lit(0),
        version_nr=pl.lit(1),
        posting_sign=pl.lit(1),
    )
    lost = closed.with_columns(lost_milli=pl.lit(3_000, pl.Int64), censored_days=pl.lit(1, pl.Int64))
    return replace(inputs, stock=stock), lost


def test_an_estimated_day_is_a_target_and_the_model_says_how_many_are(lake, profile):
    inputs, lost = sold_out_world(lake, profile)
    estimated = train_model(replace(inputs, lost_sales=lost), profile, ORIGIN)
    left_out = train_model(inputs, profile, ORIGIN)
    assert left_out.card.n_estimated == 0
    assert estimated.card.n_estimated > 100
    assert estimated.card.n_rows == left_out.card.n_rows + estimated.card.n_estimated
    assert card_from_json(estimated.card.as_json()) == estimated.card


def test_lost_sales_known_after_the_training_origin_change_nothing(lake, profile):
    inputs, lost = sold_out_world(lake, profile)
    origin = ORIGIN - timedelta(days=40)
    early = lost.filter(pl.col("knowledge_date") <= origin)
    revised = lost.head(5).with_columns(knowledge_date=pl.lit(origin + timedelta(days=1)))
    known = train_model(replace(inputs, lost_sales=early), profile, origin)
    later = train_model(replace(inputs, lost_sales=pl.concat([lost, revised])), profile, origin)
    assert later.files == known.files


def test_demand_is_what_was_sold_and_what_was_lost(lake, profile):
    inputs, lost = sold_out_world(lake, profile)
    keys = inputs.demand.select("sku_id", "location_id").unique()
    facts = inputs.demand, inputs.stock, keys
    hidden, nothing = demand_of(build_panel(*facts, known_at=ORIGIN, period_days=7))
    wanted, is_estimate = demand_of(build_panel(*facts, known_at=ORIGIN, period_days=7, lost_sales=lost))
    sold = build_panel(*facts, known_at=ORIGIN, period_days=7).units
    article = keys.sort("sku_id").with_row_index().filter(sku_id="A01")["index"].item()
    n_days = lost.filter(pl.col("event_date") >= ORIGIN - timedelta(days=7)).height
    assert np.isnan(hidden[article]).all()
    assert not nothing.any()
    assert wanted[article, -1] == sold[article, -1] + 3 * n_days
    assert is_estimate[article].all()
    others = np.arange(len(sold)) != article
    assert (wanted[others] == sold[others]).all()


def test_model_texts_name_no_thread_count(lake, profile):
    files = train_model(read_inputs(lake, profile), profile, ORIGIN).files
    assert all("[num_threads: 0]" in text for text in files.values())
    assert len(files) == n_fits(profile, 1) == 12
