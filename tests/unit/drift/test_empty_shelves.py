from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from replenish.drift.daily_errors import category_errors, sold_out_periods
from replenish.drift.error_score import without_empty_shelves

DAY = date(2025, 1, 6)


def stock(on_hand: int, known_after_days: int, sign: int = 1) -> pl.DataFrame:
    row = {"sku_id": "A", "location_id": "S", "event_date": DAY, "knowledge_date": DAY + timedelta(known_after_days)}
    return pl.DataFrame([row | {"on_hand_units": on_hand, "posting_sign": sign}])


def test_an_empty_shelf_is_no_low_demand_and_high_sales_stay() -> None:
    actual, forecast = np.array([[0.0, 9.0, 2.0]]), np.array([[5.0, 5.0, 5.0]])
    sold_out = np.array([[True, True, False]])
    assert without_empty_shelves(actual, forecast, sold_out).tolist() == [[5.0, 9.0, 2.0]]


def test_only_counts_known_at_the_end_of_the_period_say_that_a_shelf_was_empty() -> None:
    periods = pl.DataFrame({"target_date": [DAY]})
    assert sold_out_periods(stock(0, 1), periods, 1).rows() == [("A", "S", DAY)]
    assert sold_out_periods(stock(0, 2), periods, 1).is_empty(), "known a day too late"
    assert sold_out_periods(stock(3, 1), periods, 1).is_empty(), "there was stock"
    taken_back = pl.concat([stock(0, 1), stock(0, 1, sign=-1), stock(3, 1)])
    assert sold_out_periods(taken_back, periods, 1).is_empty(), "the count was corrected in time"
    later = pl.concat([stock(0, 1), stock(0, 2, sign=-1)])
    assert sold_out_periods(later, periods, 1).height == 1, "it was corrected a day too late"


def test_a_sold_out_day_has_no_error() -> None:
    forecasts = pl.DataFrame({"sku_id": ["A"], "location_id": ["S"], "target_date": [DAY], "mean_milli": [5000]})
    actuals = pl.DataFrame({"sku_id": ["A"], "location_id": ["S"], "target_date": [DAY], "units": [1]})
    categories = pl.DataFrame({"sku_id": ["A"], "category_id": ["C"]})
    periods = pl.DataFrame({"target_date": [DAY]})
    (plain,) = category_errors(actuals, forecasts, categories, [DAY])
    (marked,) = category_errors(actuals, forecasts, categories, [DAY], sold_out_periods(stock(0, 1), periods, 1))
    assert plain.actual.tolist() == [[1.0]]
    assert marked.actual.tolist() == [[5.0]]
