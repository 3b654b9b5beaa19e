from __future__ import annotations

from datetime import date

import polars as pl

from replenish.cli.overviews import backtest_overview, lead_time_overview, service_overview, supply_flags


def test_lead_time_quantiles_count_lines_and_not_distinct_days() -> None:
    rows = [(date(2025, 1, 1), "V1", None, None, days, n) for days, n in ((2, 1), (3, 8), (9, 1))]
    rows.append((date(2025, 1, 1), "V1", None, "S1", 50, 100))
    columns = ["origin_date", "supplier_id", "sku_id", "location_id", "lead_time_days", "n_lines"]
    row = lead_time_overview(pl.DataFrame(rows, schema=columns, orient="row")).row(0, named=True)
    assert (row["lines"], row["p10"], row["p50"], row["p90"], row["max"]) == (10, 2, 3, 3, 9)
    assert row["mean"] == 3.5


def test_the_backtest_overview_shows_all_steps_and_the_best_first() -> None:
    rows = [
        (method, steps, metric, value, ratio)
        for method, value, ratio in (("seasonal_naive", 2.0, 1.0), ("lightgbm", 1.0, 0.5))
        for steps in ("all", "1-7")
        for metric in ("pinball", "wape")
    ]
    columns = ["method", "steps", "metric", "value", "ratio_to_seasonal_naive"]
    shown = backtest_overview(pl.DataFrame(rows, schema=columns, orient="row"))
    assert shown["method"].to_list() == ["lightgbm", "seasonal_naive"]
    assert shown["pinball ratio"].to_list() == [0.5, 1.0]


def test_the_service_overview_puts_us_first_and_compares_cost() -> None:
    costs = ("holding_cost_cents", "shortage_cost_cents", "order_cost_cents", "total_cost_cents")
    shared = {
        "fill_rate": 0.9,
        "cycle_service_level": 0.9,
        "stock_out_days": 1,
        "mean_on_hand_units": 5.0,
        "lost_units": 2,
    }
    rows = [
        {"method": method, **shared, **dict.fromkeys(costs, cents)}
        for method, cents in (("s_S_seasonal_naive", 2000), ("replenish", 1000))
    ]
    shown = service_overview(pl.DataFrame(rows))
    assert shown["method"].to_list() == ["replenish", "s_S_seasonal_naive"]
    assert shown["cost ratio"].to_list() == [0.5, 1.0]


def test_supply_flags_net_out_what_was_taken_back() -> None:
    rows = [("received", "no_order", 1), ("received", "no_order", -1), ("received", "ok", 1), ("ordered", "open", 1)]
    flags = supply_flags(pl.DataFrame(rows, schema=["supply_event", "lead_time_flag", "posting_sign"], orient="row"))
    assert dict(flags.select("lead_time_flag", "lines").iter_rows()) == {"no_order": 0, "ok": 1}
