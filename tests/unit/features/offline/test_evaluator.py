"""The offline evaluator: against the oracle, and what it keeps, refuses and gives back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from replenish.bitemporal import as_of_join, state_log
from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, RowFilter, SourceColumn
from replenish.features.offline.evaluator import evaluate, evaluate_partitions
from replenish.features.offline.log_lookup import packed_as_of_join
from tests.oracle.compare import batch_of, compare, question_of
from tests.unit.features.offline.oracle_question import answered, feature_set_of

BERLIN, SIX = "Europe/Berlin", time(6)
CUTOFF = datetime(2025, 3, 10, 5, tzinfo=UTC)
"""That of 10 March 2025."""


@pytest.mark.parametrize("rows_at_once", [8_000_000, 40])
def test_every_value_is_the_oracles(rows_at_once: int) -> None:
    done = compare(partial(answered, rows_at_once=rows_at_once), (batch_of(seed) for seed in range(9_000, 9_003)))
    assert not done.n_wrong, str(done.mismatch)
    assert done.n_values > 5_000


@pytest.mark.parametrize("seed", range(9_100, 9_103))
def test_a_packed_look_up_is_the_as_of_join(seed: int) -> None:
    question = question_of(batch_of(seed))
    values = ["units", "channel"]
    log = state_log(question.ledger, key=question.entity, fact_key=question.fact_key, values=values)
    for time_to_live in (None, timedelta(days=3)):
        options = {
            "key": question.entity,
            "as_of": "as_of",
            "values": values,
            "time_to_live": time_to_live,
        }
        assert packed_as_of_join(question.spine, log, **options).equals(as_of_join(question.spine, log, **options))


def feature(name: str, aggregation: str, **fields: object) -> FeatureDefinition:
    source = None if aggregation == "ratio" else "sales"
    fields = {"source": source, "value": "units" if source else None, **fields}
    return FeatureDefinition(name=name, aggregation=aggregation, unit="", description="", **fields)  # type: ignore[arg-type]


def set_of(*features: FeatureDefinition, clock: str = "daily") -> FeatureSet:
    columns = (SourceColumn("units", "units", "units"), SourceColumn("channel", "channel", "text", "string"))
    source = FeatureSource("sales", "gold/fct_sales", "sales", ("fact_id",), columns)
    return FeatureSet("test", "1.0.0", "", "", clock, ("sku_id",), (source,), features)  # type: ignore[arg-type]


def ledger_of(*rows: tuple[str, date, datetime, int, int | None]) -> pl.DataFrame:
    """Versions of facts: key, event date, knowledge time, sign, units; a negative sign is a reversal."""
    return pl.DataFrame(
        [
            {
                "sku_id": key,
                "fact_id": f"{key}{day}",
                "event_date": day,
                "event_time": datetime.combine(day, time(12), UTC),
                "knowledge_time": known,
                "posting_sign": sign,
                "posting_kind": "version" if sign > 0 else "reversal",
                "version_nr": 1,
                "units": units,
                "channel": "shop",
            }
            for key, day, known, sign, units in rows
        ],
        schema_overrides={"event_time": pl.Datetime("us", "UTC"), "knowledge_time": pl.Datetime("us", "UTC")},
    )


LEDGER = ledger_of(
    ("A", date(2025, 3, 1), datetime(2025, 3, 2, tzinfo=UTC), 1, 4),
    ("A", date(2025, 3, 8), datetime(2025, 3, 9, tzinfo=UTC), 1, 3),
    ("A", date(2025, 3, 8), datetime(2025, 3, 10, 5, tzinfo=UTC), -1, 3),
    ("A", date(2025, 3, 9), datetime(2025, 3, 10, 5, 0, 0, 1, tzinfo=UTC), 1, 9),
    ("B", date(2025, 3, 9), datetime(2025, 3, 9, 20, tzinfo=UTC), 1, None),
)


def spine_of(*rows: tuple[str | None, datetime]) -> pl.DataFrame:
    schema = {"sku_id": pl.String(), "as_of": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_posting_known_at_the_cutoff_counts_and_one_known_a_microsecond_later_does_not() -> None:
    found = evaluate(
        set_of(feature("sum__7", "sum", window_days=7), feature("since", "days_since"), feature("last", "last")),
        spine_of(("A", CUTOFF), ("A", CUTOFF - timedelta(days=1)), ("A", CUTOFF + timedelta(days=1))),
        {"sales": LEDGER},
        BERLIN,
        SIX,
    )
    assert found["sum__7"].to_list() == [0, 3, 9]
    assert found["since"].to_list() == [9, 1, 2]
    assert found["last"].to_list() == [4, 3, 9]


def test_rows_keep_their_order_and_columns_and_features_theirs() -> None:
    spine = spine_of(("B", CUTOFF), ("A", CUTOFF), (None, CUTOFF), ("B", CUTOFF)).with_columns(note=pl.lit("x"))
    features = set_of(
        feature("n", "count", window_days=30),
        feature("age", "days_since_first"),
        feature("half", "ratio", numerator="n", denominator_feature="age"),
        feature("mean", "mean", window_days=30, denominator="since_first"),
        feature("text", "last", value="channel"),
        feature("none", "sum", window_days=30, where=RowFilter("channel", "web")),
    )
    found = evaluate(features, spine, {"sales": LEDGER.lazy()}, BERLIN, SIX)
    assert found.columns == [*spine.columns, *features.feature_names]
    assert found.select(spine.columns).equals(spine)
    dtypes = [pl.Int64, pl.Int64, pl.Float64, pl.Float64, pl.String, pl.Int64]
    assert list(found.schema.values())[3:] == dtypes
    assert found.rows()[1][3:] == (1, 9, 1 / 9, 4 / 9, "shop", 0)
    assert found.rows()[0][3:] == (0, None, None, None, "shop", 0) == found.rows()[3][3:]
    assert found.rows()[2][3:] == (0, None, None, None, None, 0)


def test_an_empty_spine_and_an_empty_ledger_have_columns_of_their_types() -> None:
    features = set_of(
        feature("sum__7", "sum", window_days=7), feature("last", "last"), feature("low", "min", window_days=7)
    )
    for spine, ledger in (
        (spine_of(), LEDGER),
        (spine_of(("A", CUTOFF)), LEDGER.clear()),
        (spine_of(), LEDGER.clear()),
    ):
        found = evaluate(features, spine, {"sales": ledger}, BERLIN, SIX)
        assert found.height == spine.height
        assert found.schema["sum__7"] == found.schema["last"] == found.schema["low"] == pl.Int64
        assert found["sum__7"].to_list() == [0] * spine.height
        assert found["last"].to_list() == [None] * spine.height


def test_partitions_hold_few_rows_and_together_are_the_whole() -> None:
    question = question_of(batch_of(9_200))
    features = feature_set_of(question)
    args = (features, question.spine, {"ledger": question.ledger}, question.zone, question.cutoff)
    parts = list(evaluate_partitions(*args, rows_at_once=100))
    assert len(parts) > 3
    assert sorted(row for rows, _ in parts for row in rows) == list(range(question.spine.height))
    whole = evaluate(*args)
    for rows, frame in parts:
        assert frame.equals(whole[rows])


def test_a_ledger_still_to_be_read_is_dealt_to_files_once(tmp_path: Path) -> None:
    question = question_of(batch_of(9_200))
    features, spill = feature_set_of(question), tmp_path / "staged"
    left = spill / "ledger" / "_part=0"
    left.mkdir(parents=True)
    (left / "of-one-that-was-killed.ipc").write_bytes(b"")
    stored, clocks = tmp_path / "ledger.parquet", (question.zone, question.cutoff)
    question.ledger.write_parquet(stored)
    ledgers = {"ledger": pl.scan_parquet(stored)}
    found = []
    for part in evaluate_partitions(features, question.spine, ledgers, *clocks, rows_at_once=100, spill=spill):
        found.append(part)
        # Nobody reads it a second time.
        stored.unlink(missing_ok=True)
    assert not spill.exists()
    whole = evaluate(features, question.spine, {"ledger": question.ledger}, *clocks)
    assert len(found) > 6
    for rows, frame in found:
        assert frame.equals(whole[rows])


@pytest.mark.parametrize("size", [1_000, 300_000_000, 80_000_000_000, 2**56])
def test_deviations_of_great_totals_are_exact(size: int) -> None:
    ledger = ledger_of(
        *(("A", date(2025, 2, 10) + timedelta(days=n), CUTOFF - timedelta(days=1), 1, size + n) for n in range(28))
    )
    features = set_of(feature("std", "std", window_days=28, denominator="calendar"))
    found = evaluate(features, spine_of(("A", CUTOFF)), {"sales": ledger}, BERLIN, SIX)
    assert found["std"].item() == pytest.approx(((28**2 - 1) / 12) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("aggregation", ["sum", "mean", "std", "max", "days_since"])
def test_values_that_leave_64_bits_together_are_refused_with_their_entity(aggregation: str) -> None:
    days = (date(2025, 3, 1), date(2025, 3, 2), date(2025, 3, 3))
    great = ledger_of(*(("B", day, datetime(2025, 3, 4, tzinfo=UTC), 1, 2**61) for day in days))
    fields = {} if aggregation == "days_since" else {"window_days": 28}
    fields |= {"denominator": "calendar"} if aggregation in ("mean", "std") else {}
    features = set_of(feature("asked", aggregation, **fields))
    ledger = pl.concat([LEDGER, great])
    assert evaluate(features, spine_of(("A", CUTOFF)), {"sales": ledger}, BERLIN, SIX).height == 1
    with pytest.raises(OutOfRange, match=r"leave 64 bits.*column=units.*entity=\('B',\)"):
        evaluate(features, spine_of(("A", CUTOFF), ("B", CUTOFF)), {"sales": ledger}, BERLIN, SIX)


@pytest.mark.parametrize("column", ["event_date", "knowledge_time", "event_time"])
def test_a_posting_without_a_clock_is_refused(column: str) -> None:
    features = set_of(feature("sum__7", "sum", window_days=7), feature("last", "last"))
    ledger = LEDGER.with_columns(pl.when(pl.col("sku_id") != "B").then(column).alias(column))
    with pytest.raises(OutOfRange, match=rf"source=sales.*columns=\['{column}'\].*rows=1.*entity=\('B',\)"):
        evaluate(features, spine_of(("A", CUTOFF), ("B", CUTOFF)), {"sales": ledger}, BERLIN, SIX)


def test_a_return_on_a_day_without_a_sale_makes_it_observed() -> None:
    returned = ledger_of(("A", date(2025, 3, 7), datetime(2025, 3, 8, tzinfo=UTC), -1, 5))
    ledger = pl.concat([LEDGER, returned.with_columns(posting_kind=pl.lit("return"))])
    features = set_of(
        feature("mean", "mean", window_days=28, denominator="observed"),
        feature("std", "std", window_days=28, denominator="observed"),
        feature("low", "min", window_days=28),
        feature("lag", "lag", lag_days=3, denominator="observed"),
        feature("n", "count", window_days=28),
    )
    taking = replace(features.sources[0], posting_kinds=(*features.sources[0].posting_kinds, "return"))
    spine = spine_of(("A", CUTOFF))
    found = evaluate(replace(features, sources=(taking,)), spine, {"sales": ledger}, BERLIN, SIX)
    assert found.rows()[0][2:] == (-0.5, 4.5, -5, -5, 1)
    assert evaluate(features, spine, {"sales": ledger}, BERLIN, SIX).rows()[0][2:] == (4.0, 0.0, 4, None, 1)


def test_values_have_the_types_that_the_source_declares() -> None:
    ledger = LEDGER.with_columns(is_sold=pl.col("units") > 3)
    columns = (
        SourceColumn("units", "units", "units", "number"),
        SourceColumn("is_sold", "is_sold", "flag", "integer"),
        SourceColumn("channel", "channel", "text", "string"),
    )
    features = set_of(
        feature("now", "last"),
        feature("sold", "last", value="is_sold"),
        feature("days", "sum", value="is_sold", window_days=28),
        feature("seen", "count", value="channel", window_days=28, where=RowFilter("is_sold", 1)),
    )
    features = replace(features, sources=(replace(features.sources[0], columns=columns),))
    for sales in (ledger, ledger.lazy()):
        found = evaluate(features, spine_of(("A", CUTOFF), ("B", CUTOFF)), {"sales": sales}, BERLIN, SIX)
        assert list(found.schema.values())[2:] == [pl.Float64, pl.Int64, pl.Int64, pl.Int64]
        assert [row[2:] for row in found.rows()] == [(4.0, 1, 1, 1), (None, None, 0, 0)]


def test_what_cannot_be_evaluated_is_refused_with_its_names() -> None:
    spine, features = spine_of(("A", CUTOFF)), set_of(feature("sum__7", "sum", window_days=7))

    def refused(
        match: str, *, features: FeatureSet = features, spine: pl.DataFrame = spine, **ledgers: pl.DataFrame
    ) -> None:
        with pytest.raises(OutOfRange, match=match):
            evaluate(features, spine, ledgers or {"sales": LEDGER}, BERLIN, SIX)

    off = spine.with_columns(as_of=pl.col("as_of") + pl.duration(microseconds=1))
    refused("at cut-offs only.*rows=1", spine=off)
    evaluate(replace(features, clock="instant"), off, {"sales": LEDGER}, BERLIN, SIX)
    refused("spine lacks columns.*sku_id", spine=spine.drop("sku_id"))
    refused("already has columns.*sum__7", spine=spine.with_columns(sum__7=1))
    refused("timestamp with a zone", spine=spine.with_columns(as_of=pl.col("as_of").dt.replace_time_zone(None)))
    refused("as_of is null", spine=spine_of(("A", None)))  # type: ignore[arg-type]
    refused("has no ledger.*sales", other=LEDGER)
    refused("ledger lacks columns.*units", sales=LEDGER.drop("units"))
    refused("differ in type.*sku_id", sales=LEDGER.with_columns(pl.col("sku_id").cast(pl.Categorical)))
    refused("only integers are summed.*units", sales=LEDGER.with_columns(pl.col("units").cast(pl.Float64)))
