from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from replenish.forecast.planned_prices import planned_prices

ORIGIN = date(2024, 6, 3)
ROWS = pl.DataFrame({"sku_id": ["A"], "location_id": ["S"], "origin_date": [ORIGIN]})


def price(day: int, cents: int, *, known: int, kind: str = "version", version: int = 1, promotion: bool = False):
    """A row of the price ledger: valid from a day of June, known on a day of June."""
    return {
        "sku_id": "A",
        "location_id": "S",
        "event_time": datetime(2024, 6, day, tzinfo=UTC),
        "event_date": date(2024, 6, day),
        "knowledge_date": date(2024, 6, known),
        "unit_price_cents": cents,
        "is_promotion": promotion,
        "version_nr": version,
        "posting_kind": kind,
    }


def plan(*ledger, steps=range(1, 8)):
    prices, promotions = planned_prices(pl.DataFrame(list(ledger)), ROWS, steps, 1)
    return prices[0].tolist(), promotions[0].tolist()


def test_a_planned_promotion_is_seen_from_its_day_until_the_next_price():
    prices, promotions = plan(
        price(1, 200, known=1), price(5, 150, known=2, promotion=True), price(7, 200, known=2), price(20, 90, known=3)
    )
    assert prices == [200, 200, 150, 150, 200, 200, 200]
    assert promotions == [0, 0, 1, 1, 0, 0, 0]


def test_a_plan_that_becomes_known_after_the_origin_is_not_seen():
    assert plan(price(1, 200, known=1), price(5, 150, known=4))[0] == [200] * 7


def test_a_plan_withdrawn_in_time_is_not_seen():
    ledger = [price(1, 200, known=1), price(5, 150, known=2), price(5, 150, known=3, kind="reversal")]
    assert plan(*ledger)[0] == [200] * 7


def test_a_plan_withdrawn_too_late_still_stands_at_the_origin():
    ledger = [price(1, 200, known=1), price(5, 150, known=2), price(5, 150, known=4, kind="reversal")]
    assert plan(*ledger)[0] == [200, 200, 150, 150, 150, 150, 150]


def test_a_corrected_price_replaces_its_first_version():
    ledger = [
        price(1, 200, known=1),
        price(1, 200, known=2, kind="reversal"),
        price(1, 210, known=2, version=2),
    ]
    assert plan(*ledger)[0] == [210] * 7


@pytest.mark.parametrize("ledger", [None, pl.DataFrame()])
def test_without_prices_nothing_is_planned(ledger):
    prices, promotions = planned_prices(ledger, ROWS, [1, 2], 1)
    assert prices.shape == (1, 2)
    assert np.isnan(prices).all()
    assert np.isnan(promotions).all()
