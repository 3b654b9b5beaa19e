"""The late-data report of one origin: rows that came late, and what they would have changed at earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Contract
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable, TableMissing
from replenish.features.demand import FEAT_DEMAND_TABLE, GoldFrames, build_demand_features
from replenish.features.late_data.arrivals import LATE_ROWS_SCHEMA, LATE_ROWS_TABLE, late_rows
from replenish.features.late_data.effects import (
    ITEM_KEY,
    LATE_EFFECTS_SCHEMA,
    LATE_EFFECTS_TABLE,
    LATE_ORDERS_SCHEMA,
    LATE_ORDERS_TABLE,
    feature_effects,
    forecast_effects,
    order_changes,
    order_effects,
)
from replenish.features.late_data.punctual import punctual_changes, recorded_changes
from replenish.features.late_data.what_if_lake import WhatIfLake
from replenish.features.unconstrained.lost_sales import lost_sales_increments
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all

REPORT_DAYS = 28
"""Origins looked back on: nearly all that is late has come by then, and four whole weeks of each weekday."""
REPLAYED_ORIGINS = 7
"""Origins decided again, the newest that have decisions: each costs two daily runs without training."""

DECIDED_TABLE = "decisions/replenishment"
FORECASTS_TABLE = "forecasts/demand"


class Replay(Protocol):
    """Forecasts and order lines of an origin on the tables of a lake; stages never import one another."""

    def __call__(self, lake: DeltaLake, origin: date) -> pl.DataFrame:
        """Write the origin's forecasts into `lake` and give its order lines, see `ORDER_LINE_SCHEMA`.

        Raises:
            NotApplicable: Nothing can be forecast or decided at this origin.
        """


@dataclass(frozen=True)
class LateReport:
    """Frames of `monitoring/late_rows`, `monitoring/late_effects` and `monitoring/late_orders`, for one report."""

    rows: pl.DataFrame
    effects: pl.DataFrame
    orders: pl.DataFrame


def late_report(
    lake: DeltaLake,
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    profile: ForecastProfile,
    report_date: date,
    replay: Replay,
) -> LateReport:
    """What came late up to an origin and what it would have changed; the same whenever it is made.

    Features are compared at the origins of the last `REPORT_DAYS`, forecasts and orders at the newest
    `REPLAYED_ORIGINS` of them that were decided. Both sides of a comparison are computed by the code of today. Held
    fixed are the model of each origin, the forecast's error pools, the policy and the orders that were really sent.

    Args:
        lake: Bronze, silver, gold, features and decisions.
        dataset: Zone and cut-off.
        contracts: By stream.
        profile: The features that the forecast reads.
        report_date: Origin of the report; rows known later are left out.
        replay: What forecasts and decides.

    Raises:
        NotApplicable: No features were built for any origin up to the report's.
    """
    streams = tuple(sorted(s for s, c in contracts.items() if not c.is_reference and lake.has(f"silver/{s}")))
    recorded = WhatIfLake(lake, recorded_changes(report_date, streams))
    on_time = WhatIfLake(lake, punctual_changes(report_date, streams, dataset.zone, dataset.cutoff))
    features = _features(recorded, on_time, dataset, profile, _origins(profile, report_date))
    effects = [feature_effects(*features, [*ITEM_KEY, "origin_date"], profile.feature_columns)]
    orders = [pl.DataFrame(schema={n: t for n, t in LATE_ORDERS_SCHEMA.items() if n != "report_date"})]
    for origin in _decided_origins(lake, report_date):
        for_origin = [frame.filter(pl.col("origin_date") == profile.origin_at_or_before(origin)) for frame in features]
        worlds = [
            WhatIfLake(world, {}, {FEAT_DEMAND_TABLE: frame})
            for world, frame in zip((recorded, on_time), for_origin, strict=True)
        ]
        try:
            known, punctual = (replay(world, origin) for world in worlds)
        except (NotApplicable, TableMissing):
            continue
        changed = order_changes(known, punctual, origin)
        effects.append(forecast_effects(*(_forecasts(world, origin) for world in worlds)))
        effects.append(order_effects(known, changed, origin, _recorded_units(lake, origin)))
        orders.append(changed)
    return LateReport(
        rows=_late_rows(recorded, contracts, streams, report_date),
        effects=_dated(pl.concat(effects), report_date, LATE_EFFECTS_SCHEMA),
        orders=_dated(pl.concat(orders), report_date, LATE_ORDERS_SCHEMA),
    )


def write_late_report(lake: DeltaLake, report: LateReport, report_date: date, audit: Audit = accept_all) -> TableCommit:
    """Keep a report in its three tables in place of an earlier one of the same origin; gives the table of effects.

    Raises:
        AuditFailed: `audit` refused the effects; nothing was written.
    """
    audit(report.effects)
    for table, frame in ((LATE_ROWS_TABLE, report.rows), (LATE_ORDERS_TABLE, report.orders)):
        lake.replace_partitions(table, frame, column="report_date", values=[report_date])
    return lake.replace_partitions(LATE_EFFECTS_TABLE, report.effects, column="report_date", values=[report_date])


def effects_summary(effects: pl.DataFrame) -> pl.DataFrame:
    """Per kind and subject over all origins: values compared, changed, their share, and the changes in cents.

    Args:
        effects: Rows of `LATE_EFFECTS_SCHEMA` of one report.
    """
    sums = [pl.col(c).sum() for c in ("n_compared", "n_changed", "net_change_cents", "absolute_change_cents")]
    total = effects.group_by("effect", "subject", maintain_order=True).agg(pl.len().alias("n_origins"), *sums)
    return total.with_columns(changed_share=(pl.col("n_changed") / pl.col("n_compared")).round(4))


def _origins(profile: ForecastProfile, report_date: date) -> list[date]:
    newest = profile.period_index(profile.origin_at_or_before(report_date))
    n_origins = -(-REPORT_DAYS // profile.period_days)
    return [profile.period_start(number) for number in range(newest - n_origins + 1, newest + 1)]


def _features(
    recorded: WhatIfLake, on_time: WhatIfLake, dataset: Dataset, profile: ForecastProfile, origins: Sequence[date]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The demand features of the origins, as known and with late rows on time."""
    if not recorded.has(FEAT_DEMAND_TABLE):
        raise NotApplicable("not_applicable: no features yet", dataset=dataset.dataset_id)
    rows = recorded.scan(FEAT_DEMAND_TABLE).filter(pl.col("feature_set_id") == profile.feature_set_id)
    # A series that only late rows would have made known is one the loop did not build at any of these origins.
    series = rows.filter(pl.col("origin_date") <= origins[-1]).select(ITEM_KEY).unique().collect()
    if series.is_empty():
        raise NotApplicable("not_applicable: no features of this profile yet", profile=profile.name)
    where = {"zone": dataset.zone, "cutoff": dataset.cutoff, "series": series}
    known, punctual = (
        build_demand_features(_gold(world, dataset, origins), profile, origins, **where)  # type: ignore[arg-type]
        for world in (recorded, on_time)
    )
    return known, punctual


def _gold(lake: WhatIfLake, dataset: Dataset, origins: Sequence[date]) -> GoldFrames:
    """Gold as the feature build takes it; a table without rows is one that the data set has not."""

    def table(name: str) -> pl.DataFrame | None:
        rows = lake.read(name) if lake.has(name) else None
        return None if rows is None or rows.is_empty() else rows

    demand, stock = lake.read("gold/fct_demand"), table("gold/fct_stock")
    clock = {"zone": dataset.zone, "cutoff": dataset.cutoff}
    return GoldFrames(
        demand=demand,
        prices=table("gold/fct_price"),
        stock=stock,
        lost_sales=None if stock is None else lost_sales_increments(demand, stock, origins[0], origins[-1], **clock),  # type: ignore[arg-type]
        products=table("gold/dim_product"),
        supply=table("gold/fct_supply"),
    )


def _decided_origins(lake: DeltaLake, report_date: date) -> list[date]:
    if not lake.has(DECIDED_TABLE):
        return []
    oldest = report_date - timedelta(days=REPORT_DAYS)
    origins = lake.scan(DECIDED_TABLE).select("origin_date").unique().collect()["origin_date"].sort().to_list()
    return [origin for origin in origins if oldest < origin <= report_date][-REPLAYED_ORIGINS:]


def _forecasts(lake: DeltaLake, origin: date) -> pl.DataFrame:
    return lake.read(FORECASTS_TABLE, filters=[("origin_date", "==", origin)])


def _recorded_units(lake: DeltaLake, origin: date) -> dict[tuple[str, str], int]:
    """Units of the newest decision of each item at an origin."""
    rows = lake.read(DECIDED_TABLE, filters=[("origin_date", "==", origin)]).sort(*ITEM_KEY, "revision")
    return {(sku, place): units for sku, place, units in rows.select(*ITEM_KEY, "order_units").iter_rows()}


def _late_rows(
    lake: WhatIfLake, contracts: Mapping[str, Contract], streams: Sequence[str], report_date: date
) -> pl.DataFrame:
    frames = [pl.DataFrame(schema=LATE_ROWS_SCHEMA)]
    # A correction's reversal is known with it, so nothing outside of these days is needed.
    is_recent = pl.col("knowledge_date") > report_date - timedelta(days=REPORT_DAYS)
    for stream in streams:
        key = contracts[stream].fact_key
        bronze = lake.scan(f"bronze/{stream}").filter(is_recent).select(*key, "knowledge_time", "feed_id").collect()
        ledger = lake.scan(f"silver/{stream}").filter(is_recent).collect()
        frames.append(late_rows(stream, ledger, bronze, key, report_date, REPORT_DAYS))
    return pl.concat(frames)


def _dated(rows: pl.DataFrame, report_date: date, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return rows.with_columns(report_date=pl.lit(report_date)).select(list(schema))
