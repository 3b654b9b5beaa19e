"""How far an order may go: limits, degraded inputs, and that nothing unsound is ever automatic."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.control.order_verdict import STRICTNESS, OrderCase, judge_order
from replenish.control.policy import CIRCUMSTANCES, read_policy

POLICY = read_policy()
FRESH = dict.fromkeys(("sales", "stock_counts", "purchase_orders", "receipts", "prices"), "ok")
SOUND = OrderCase(
    order_units=24,
    need_units=20,
    order_cost_cents=2_400,
    supplier_cost_cents=10_000,
    usual_units=100,
    recent_peak_units=12,
    usual_peak_units=12,
    feeds=FRESH,
    forecast_mode="champion",
    circumstances={},
)
WORSE_STATES = {"ok": "warn", "warn": "fail", "fail": "fail", "never": "never", "missing": "missing"}


def codes(case: OrderCase) -> set[str]:
    return {reason.code for reason in judge_order(case, POLICY).reasons}


def test_a_sound_order_within_limits_is_automatic() -> None:
    assert judge_order(SOUND, POLICY).verdict == "auto"


def test_an_order_of_nothing_is_no_action_with_its_reason() -> None:
    verdict = judge_order(replace(SOUND, order_units=0, need_units=0, order_cost_cents=0), POLICY)
    assert (verdict.verdict, verdict.reasons[0].code) == ("no_action", "position_covers")


def test_a_data_set_without_stock_counts_says_not_applicable() -> None:
    verdict = judge_order(replace(SOUND, feeds={**FRESH, "stock_counts": "missing"}), POLICY)
    assert verdict.verdict == "no_action"
    assert verdict.reasons[0].detail == "not_applicable: no stock_counts feed"


def test_a_late_stock_feed_takes_the_order_to_a_person() -> None:
    case = replace(SOUND, feeds={**FRESH, "stock_counts": "fail"})
    assert judge_order(case, POLICY).verdict == "approval"
    assert codes(case) == {"late_stock_counts"}


def test_a_day_of_a_thousandfold_demand_freezes_the_order() -> None:
    case = replace(SOUND, recent_peak_units=12_000)
    assert judge_order(case, POLICY).verdict == "freeze"
    assert "implausible_demand" in codes(case)


def test_an_implausible_day_is_said_even_where_nothing_would_be_ordered() -> None:
    case = replace(SOUND, recent_peak_units=12_000, order_units=0, need_units=0)
    assert judge_order(case, POLICY).verdict == "freeze"


def test_a_need_beyond_reason_freezes_the_order() -> None:
    assert judge_order(replace(SOUND, need_units=1_001, order_units=1_008), POLICY).verdict == "freeze"


@pytest.mark.parametrize("mode", ["naive", "previous", "something else"])
def test_a_degraded_forecast_takes_the_order_to_a_person(mode: str) -> None:
    assert judge_order(replace(SOUND, forecast_mode=mode), POLICY).verdict == "approval"


def test_a_missing_forecast_freezes_the_order() -> None:
    assert judge_order(replace(SOUND, forecast_mode=None), POLICY).verdict == "freeze"


def test_a_circumstance_the_policy_does_not_know_freezes_the_order() -> None:
    assert judge_order(replace(SOUND, circumstances={"new_thing": ""}), POLICY).verdict == "freeze"


def test_every_reason_is_told_not_only_the_strictest() -> None:
    case = replace(SOUND, order_cost_cents=10**9, forecast_mode="naive", circumstances={"horizon_too_short": "x"})
    assert codes(case) == {"value_above_limit", "degraded_forecast", "horizon_too_short"}


amounts = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 10**7).map(float))
cases = st.builds(
    OrderCase,
    order_units=amounts,
    need_units=amounts,
    order_cost_cents=amounts,
    supplier_cost_cents=amounts,
    usual_units=amounts,
    recent_peak_units=amounts,
    usual_peak_units=amounts,
    feeds=st.fixed_dictionaries({stream: st.sampled_from(list(WORSE_STATES)) for stream in FRESH}),
    forecast_mode=st.sampled_from(["champion", "previous", "naive", None]),
    circumstances=st.dictionaries(st.sampled_from(CIRCUMSTANCES), st.just("x"), max_size=2),
)
sound_cases = st.builds(
    OrderCase,
    order_units=st.integers(1, 500).map(float),
    need_units=st.integers(1, 500).map(float),
    order_cost_cents=st.integers(0, 200_000).map(float),
    supplier_cost_cents=st.integers(0, 2_000_000).map(float),
    usual_units=st.integers(1, 200).map(float),
    recent_peak_units=st.integers(0, 300).map(float),
    usual_peak_units=st.integers(0, 30).map(float),
    feeds=st.fixed_dictionaries({stream: st.sampled_from(["ok", "warn", "fail"]) for stream in FRESH}),
    forecast_mode=st.sampled_from(["champion", "previous", "naive"]),
    circumstances=st.dictionaries(st.sampled_from(CIRCUMSTANCES), st.just("x"), max_size=2),
)


@given(cases)
def test_nothing_above_a_value_limit_or_of_unknown_value_is_ever_automatic(case: OrderCase) -> None:
    if judge_order(case, POLICY).verdict == "auto":
        assert case.order_cost_cents is not None and 0 <= case.order_cost_cents <= POLICY.auto.max_order_cents
        assert case.supplier_cost_cents is not None and 0 <= case.supplier_cost_cents <= POLICY.auto.max_supplier_cents


@given(sound_cases, st.sampled_from([name for name, kind in OrderCase.__annotations__.items() if "float" in kind]))
def test_a_figure_that_is_not_a_number_is_never_automatic(case: OrderCase, name: str) -> None:
    for broken in (math.nan, math.inf, -1.0, None):
        assert judge_order(replace(case, **{name: broken}), POLICY).verdict != "auto"


def worsened(case: OrderCase) -> list[OrderCase]:
    assert case.recent_peak_units is not None and case.order_cost_cents is not None
    states = [replace(case, feeds={**case.feeds, s: WORSE_STATES[state]}) for s, state in case.feeds.items()]
    circumstances = [replace(case, circumstances={**case.circumstances, code: "x"}) for code in CIRCUMSTANCES]
    return [
        *states,
        *circumstances,
        replace(case, recent_peak_units=case.recent_peak_units * 3),
        replace(case, order_cost_cents=case.order_cost_cents * 3),
        replace(case, supplier_cost_cents=None),
        replace(case, forecast_mode="naive"),
        replace(case, forecast_mode=None),
        replace(case, usual_units=0.0),
    ]


@given(sound_cases)
def test_worse_inputs_never_give_a_more_permissive_verdict(case: OrderCase) -> None:
    before = STRICTNESS[judge_order(case, POLICY).verdict]
    assert all(STRICTNESS[judge_order(worse, POLICY).verdict] >= before for worse in worsened(case))
