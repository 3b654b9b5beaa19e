"""Histories as frames: one generic ledger with every clock, and the shapes of the gold facts.

The generic ledger has the entity (`sku_id`, `location_id`), `fact_id`, the clocks and posting columns of silver and the
values of `histories`. The other frames have exactly the columns and types of dbt's `fct_stock`, `fct_price` and
`fct_demand`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from tests.oracle.histories import Entity, History, Setting, ledger_of
from tests.oracle.known_at import origin_date

ENTITY = ("sku_id", "location_id")
TIMESTAMP = pl.Datetime("us", "UTC")
CLOCKS = {"event_time": TIMESTAMP, "event_date": pl.Date(), "knowledge_time": TIMESTAMP, "knowledge_date": pl.Date()}
POSTING = {"version_nr": pl.Int32(), "posting_kind": pl.String(), "posting_sign": pl.Int32()}
VALUES = {"units": pl.Int64(), "cents": pl.Int64(), "channel": pl.String(), "is_promotion": pl.Boolean()}
KEYS = {"sku_id": pl.String(), "location_id": pl.String()}


def fact_key(setting: Setting) -> tuple[str, ...]:
    """Columns of the fact key in a shape of history."""
    return {"named": (*ENTITY, "fact_id"), "roaming": ("fact_id",), "timed": (*ENTITY, "event_time")}[setting.shape]


def ledger_rows(history: History, setting: Setting) -> list[dict[str, Any]]:
    """Rows of the generic ledger."""
    return [
        {
            **dict(zip(ENTITY, posting["key"], strict=True)),
            "fact_id": None if setting.shape == "timed" else posting["fact"][-1],
            **{name: posting[name] for name in ("event_time", "event_date", "knowledge_time")},
            "knowledge_date": _first_origin(posting["knowledge_time"], setting),
            **{name: posting[name] for name in POSTING},
            **posting["values"],
        }
        for posting in ledger_of(history)
    ]


def ledger_frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The generic ledger, in the given order of rows."""
    schema = {**KEYS, "fact_id": pl.String(), **CLOCKS, **POSTING, **VALUES}
    return pl.DataFrame(rows, schema=schema, orient="row")


def spine_frame(spine: Sequence[tuple[Entity, Any]]) -> pl.DataFrame:
    """Columns `sku_id`, `location_id`, `as_of`."""
    return pl.DataFrame(
        [(*entity, as_of) for entity, as_of in spine], schema={**KEYS, "as_of": TIMESTAMP}, orient="row"
    )


def stock_frame(ledger: pl.DataFrame) -> pl.DataFrame:
    """A ledger of timed facts as `fct_stock`; units on hand are `units`."""
    return ledger.select(*ENTITY, *CLOCKS, on_hand_units="units", **{name: pl.col(name) for name in POSTING})


def price_frame(ledger: pl.DataFrame) -> pl.DataFrame:
    """A ledger of timed facts as `fct_price`; the price is `cents`."""
    posting = {name: pl.col(name) for name in POSTING}
    return ledger.select(*ENTITY, *CLOCKS, "is_promotion", unit_price_cents="cents", **posting).select(
        *ENTITY, *CLOCKS, "unit_price_cents", "is_promotion", *POSTING
    )


def demand_frame(ledger: pl.DataFrame) -> pl.DataFrame:
    """A ledger as `fct_demand`: increments per entity, event date and knowledge date."""
    sign, kind = pl.col("posting_sign").cast(pl.Int64), pl.col("posting_kind")
    sale_sign = pl.when(kind != "return").then(sign).otherwise(0)
    sums = ledger.group_by(*ENTITY, "event_date", "knowledge_date").agg(
        units=(sale_sign * pl.col("units")).sum(),
        revenue_cents=(sale_sign * pl.col("cents")).sum(),
        returned_units=-((sign - sale_sign) * pl.col("units")).sum(),
        lines=sign.filter(kind.is_in(["version", "reversal"])).sum(),
    )
    return sums.filter(pl.any_horizontal(pl.col("units", "revenue_cents", "returned_units", "lines") != 0))


def _first_origin(known: Any, setting: Setting) -> Any:
    """The first origin date whose cut-off is not before an instant."""
    before = origin_date(known - timedelta(microseconds=1), setting.zone, setting.cutoff)
    return before + timedelta(days=1)
