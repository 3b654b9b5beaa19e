"""Order quantities: enough, in whole packs, not below the minimum, and never more than one pack too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.decide.order_quantity import inventory_position, order_quantity
from replenish.errors import OutOfRange


@given(st.floats(0, 1e6), st.integers(-1000, 10**6), st.integers(1, 500), st.integers(0, 2000))
def test_an_order_covers_the_need_in_whole_packs_and_no_pack_more(
    level: float, position: int, pack: int, minimum: int
) -> None:
    order = order_quantity(level, position, pack_size_units=pack, min_order_units=minimum)
    assert order.order_units % pack == 0
    assert order.order_units >= order.need_units >= level - position - 1e-6
    if order.order_units:
        assert order.order_units >= minimum
        assert order.order_units - pack < max(order.need_units, minimum)
    else:
        assert position >= level - 1e-6


@given(st.floats(0, 1e5), st.integers(0, 10**5), st.integers(0, 1000), st.integers(1, 50))
def test_more_stock_never_means_a_larger_order(level: float, position: int, more: int, pack: int) -> None:
    one, other = (
        order_quantity(level, p, pack_size_units=pack, min_order_units=0) for p in (position, position + more)
    )
    assert other.order_units <= one.order_units


def test_the_minimum_sets_the_quantity_and_says_so() -> None:
    order = order_quantity(10.0, 5, pack_size_units=6, min_order_units=20)
    assert (order.need_units, order.pack_units, order.order_units, order.is_raised_to_minimum) == (5, 6, 24, True)


def test_the_rounding_of_an_interpolation_orders_no_unit() -> None:
    assert order_quantity(36.0000000001, 36, pack_size_units=1, min_order_units=0).order_units == 0


def test_what_is_owed_lowers_the_position() -> None:
    assert inventory_position(10, 5, 20) == -5


@pytest.mark.parametrize(("level", "pack", "minimum"), [(float("nan"), 1, 0), (1.0, 0, 0), (1.0, 1, -1)])
def test_arguments_out_of_range_are_refused(level: float, pack: int, minimum: int) -> None:
    with pytest.raises(OutOfRange):
        order_quantity(level, 0, pack_size_units=pack, min_order_units=minimum)
