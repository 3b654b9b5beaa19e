"""Small frames for people, made from the tables of the lake: one function per overview."""

from __future__ import annotations

import polars as pl

from replenish.units import CENTS_PER_UNIT_OF_MONEY

OUR_METHOD = "replenish"
"""Our own name in tables that set methods side by side."""

HEADLINE_METRICS = ("pinball", "wape", "bias", "coverage_0.1", "coverage_0.5", "coverage_0.9")


def backtest_overview(summary: pl.DataFrame) -> pl.DataFrame:
    """One row a method, best first: headline metrics over all steps, pinball and WAPE as ratios to seasonal naive.

    Args:
        summary: Rows `(method, steps, metric, value, ratio_to_seasonal_naive)` of `forecasts/backtest_summary`.
    """
    rows = summary.filter(pl.col("steps") == "all")
    values = rows.pivot("metric", index="method", values="value", aggregate_function="first")
    ratios = rows.pivot("metric", index="method", values="ratio_to_seasonal_naive", aggregate_function="first")
    shown = [name for name in HEADLINE_METRICS if name in values.columns]
    ratio_columns = [pl.col(n).alias(f"{n} ratio") for n in ("pinball", "wape") if n in ratios.columns]
    joined = values.select("method", *shown).join(ratios.select("method", *ratio_columns), on="method", how="left")
    return joined.sort(shown[0])


def lead_time_overview(lead_times: pl.DataFrame) -> pl.DataFrame:
    """One row a supplier: received lines and quantiles of the lead time in days, over all its articles and locations.

    Args:
        lead_times: Rows of `features/lead_time` of one origin.
    """
    of_supplier = lead_times.filter(pl.col("sku_id").is_null() & pl.col("location_id").is_null())
    lines = pl.col("n_lines")
    days = pl.col("lead_time_days")
    quantiles = [
        days.filter(lines.cum_sum() >= q * lines.sum()).first().alias(f"p{100 * q:.0f}") for q in (0.1, 0.5, 0.9)
    ]
    rows = (
        of_supplier.sort("lead_time_days")
        .group_by("supplier_id", maintain_order=True)
        .agg(
            lines.sum().alias("lines"),
            ((days * lines).sum() / lines.sum()).alias("mean"),
            *quantiles,
            days.max().alias("max"),
        )
    )
    return rows.sort(["lines", "supplier_id"], descending=[True, False])


def service_overview(summary: pl.DataFrame) -> pl.DataFrame:
    """One row a method, ours first: service, stock and money (in the currency of the data).

    Args:
        summary: Rows of `outcomes/service_summary`.
    """
    money = {"holding": "holding_cost_cents", "shortage": "shortage_cost_cents", "ordering": "order_cost_cents"}
    money |= {"total cost": "total_cost_cents"}
    baseline = pl.col("total_cost_cents").filter(pl.col("method") != OUR_METHOD).first()
    return summary.sort(pl.col("method") != OUR_METHOD).select(
        "method",
        pl.col("fill_rate"),
        pl.col("cycle_service_level").alias("cycle service"),
        pl.col("stock_out_days").alias("stock-out days"),
        pl.col("mean_on_hand_units").round(0).cast(pl.Int64).alias("mean stock"),
        pl.col("lost_units").alias("lost units"),
        *(pl.col(column).floordiv(CENTS_PER_UNIT_OF_MONEY).alias(name) for name, column in money.items()),
        (pl.col("total_cost_cents") / baseline).alias("cost ratio"),
    )


def supply_flags(supply: pl.DataFrame) -> pl.DataFrame:
    """Received lines by lead-time flag: what is in the distributions, and what is kept out and why.

    Args:
        supply: `gold/fct_supply`.
    """
    received = supply.filter(pl.col("supply_event") == "received")
    lines = received.group_by("lead_time_flag").agg(pl.col("posting_sign").cast(pl.Int64).sum().alias("lines"))
    used = pl.when(pl.col("lead_time_flag") == "ok").then(pl.lit("yes")).otherwise(pl.lit("no"))
    return lines.with_columns(used.alias("in distribution")).sort("lead_time_flag")


def cancellation_overview(counts: pl.DataFrame) -> pl.DataFrame:
    """Cancelled lines of a stream and how they fared; `exact`: an earlier sale had just the cancelled units.

    Args:
        counts: Rows of `monitoring/cancellations`.
    """
    names = [name for name in counts.columns if name.startswith("cancellations")]
    sums = counts.group_by("stream").agg(pl.col(names).sum()).sort("stream")
    return sums.rename({name: name.removeprefix("cancellations_").replace("cancellations", "lines") for name in names})


def hierarchy_overview(scores: pl.DataFrame) -> pl.DataFrame:
    """One row a level, one column a method; the last one is our WRMSSE as a ratio to seasonal naive.

    Args:
        scores: Rows of `forecasts/hierarchy_scores`.
    """
    values = scores.pivot("method", index="level", values="wrmsse", aggregate_function="first").sort("level")
    ours = scores.filter(pl.col("method") == OUR_METHOD).select("level", ratio="ratio_to_seasonal_naive")
    return values.join(ours, on="level", how="left").sort("level")
