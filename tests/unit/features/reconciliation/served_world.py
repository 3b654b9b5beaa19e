"""A small log of postings, a twin that is fed from it, and vectors that it serves, right or with a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.postings import Plain, PostingBatch, postings_of
from replenish.features.reconciliation.ledger_history import ledger_as_read

ZONE, CUTOFF = "Europe/Berlin", time(6)
TODAY = date(2025, 3, 20)
AS_OF = datetime(2025, 3, 20, 10, tzinfo=UTC)
CODE = "c0de" * 16


@dataclass(frozen=True)
class Answer:
    """A `ServedAnswer`."""

    feature_set: str
    feature_set_id: str
    code_digest: str
    key: tuple[str | int, ...]
    as_of: datetime
    seq: int
    values: Mapping[str, Plain]
    served_at: datetime = AS_OF


def feature(name: str, aggregation: str, **fields: object) -> FeatureDefinition:
    given = {"source": "sales", "value": "units", "unit": "units", "description": "", **fields}
    return FeatureDefinition(name=name, aggregation=aggregation, **given)  # type: ignore[arg-type]


SALES = FeatureSource(
    name="sales",
    table="gold/fct_sales",
    stream="sales",
    fact_key=("sale_id",),
    columns=(SourceColumn("units", "units", "units"), SourceColumn("revenue_cents", "amount_cents", "cents")),
)
SET = FeatureSet(
    name="served",
    version="1.1.0",
    description="",
    owner="",
    clock="instant",
    entity=("sku_id",),
    sources=(SALES,),
    features=(
        feature("units_sum__7", "sum", window_days=7),
        feature("revenue_cents_sum__7", "sum", value="revenue_cents", window_days=7),
        feature("units_mean__28", "mean", window_days=28, denominator="since_first"),
        feature("units_lag_1", "lag", lag_days=1),
        feature("last_units", "last"),
        feature(
            "unit_revenue",
            "ratio",
            source=None,
            value=None,
            numerator="revenue_cents_sum__7",
            denominator_feature="units_sum__7",
        ),
    ),
)
OLDER = replace(SET, version="1.0.0", features=(feature("units_sum__7", "sum", window_days=8), *SET.features[1:]))


def silver_rows(rows: Sequence[tuple[int, str, datetime, datetime, int]]) -> pl.DataFrame:
    """Versions: place in the log, article, event and knowledge time, units; each unit brings 10 to 16 cents."""
    return pl.DataFrame(
        [
            {
                "seq": seq,
                "sku_id": sku,
                "sale_id": f"{sku}-{nr}",
                "units": units,
                "amount_cents": units * (10 + nr % 7),
                "line_nr": 50 + nr,
                "event_time": event,
                "event_date": event.date(),
                "knowledge_time": known,
                "version_nr": 1,
                "posting_kind": "version",
                "posting_sign": 1,
            }
            for nr, (seq, sku, event, known, units) in enumerate(rows)
        ]
    ).with_columns(pl.col("event_time", "knowledge_time").dt.cast_time_unit("us"))


def usual_rows() -> list[tuple[int, str, datetime, datetime, int]]:
    """Sales of two articles on twenty days; some late in the evening, so that another zone gives another date."""
    rows = []
    for n_days in range(20, 0, -1):
        day = TODAY - timedelta(days=n_days)
        for nr, sku in enumerate(("A", "B")):
            event = datetime(day.year, day.month, day.day, 11 + nr, tzinfo=UTC)
            known = event + timedelta(hours=3)
            rows.append((2 * (20 - n_days) + nr + 1, sku, event, known, 3 + (n_days * 7 + nr) % 11))
    return rows


@dataclass
class FakeHistory:
    """A `LedgerHistory` of rows that know their place in the log."""

    rows: pl.DataFrame

    def silver_through(self, stream: str, keys: pl.DataFrame, seq: int | None) -> pl.DataFrame:
        assert stream == "sales"
        found = self.rows.join(keys, on=keys.columns, how="semi")
        return (found if seq is None else found.filter(pl.col("seq") <= seq)).drop("seq")

    def seqs_of(self, stream: str, keys: pl.DataFrame, through: int) -> list[int]:
        found = self.rows.join(keys, on=keys.columns, how="semi").filter(pl.col("seq") <= through)
        return found["seq"].unique().sort(descending=True).to_list()


def served(
    rows: pl.DataFrame,
    sku: str,
    *,
    seq: int,
    as_of: datetime = AS_OF,
    feature_set: FeatureSet = SET,
    zone: str = ZONE,
    cutoff: time = CUTOFF,
    stands_at: datetime | None = None,
    fed_through: int | None = None,
) -> Answer:
    """What a twin answers; `stands_at` and `fed_through`: where it really stands, other than it says."""
    truly = stands_at or as_of
    twin = FeatureTwin(feature_set, zone, cutoff, truly - timedelta(days=60))
    fed = rows.filter(pl.col("seq") <= (seq if fed_through is None else fed_through)).sort("seq")
    for (place,), batch in fed.group_by("seq", maintain_order=True):
        ledger = ledger_as_read(feature_set.sources[0], batch.drop("seq"), feature_set.entity)
        twin.apply(PostingBatch(int(place), postings_of(feature_set, feature_set.sources[0], ledger)))  # type: ignore[call-overload]
    answer = twin.answer((sku,), truly)
    said = dict(zip(feature_set.feature_names, answer.values, strict=True))
    return Answer(feature_set.name, feature_set_digest(feature_set), CODE, (sku,), as_of, seq, said)
