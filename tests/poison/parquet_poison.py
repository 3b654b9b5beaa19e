"""Poisoned Parquet: odd types, damage, and files that stand for far more than they hold."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.poison.facts import Fact

MICROSECONDS = pa.timestamp("us", tz="UTC")
Written = Callable[[Random, list[Fact]], bytes]


def frame_of(facts: list[Fact]) -> pl.DataFrame:
    return pl.DataFrame([fact.as_fields() for fact in facts])


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target)
    return target.getvalue()


def _written(columns: dict[str, Any] | pa.Table, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), target, **options)
    return target.getvalue()


def _columns(facts: list[Fact]) -> dict[str, Any]:
    return {
        "location_id": pa.array([fact.location_id for fact in facts]),
        "sold_at": pa.array([fact.sold_at for fact in facts], MICROSECONDS),
        "sale_id": pa.array([fact.sale_id for fact in facts]),
        "sku_id": pa.array([fact.sku_id for fact in facts]),
        "units": pa.array([fact.units for fact in facts]),
        "revenue_cents": pa.array([fact.revenue_cents for fact in facts]),
        "knowledge_time": pa.array([fact.known_at for fact in facts], MICROSECONDS),
    }


def wrong_types(rng: Random, facts: list[Fact]) -> bytes:
    """One column of a type or value that its contract does not allow."""
    change = rng.choice([
        pl.col("units").cast(pl.Float64) + 0.5, pl.col("units").cast(pl.Float64) + 1e-7,
        pl.lit(float("nan")).alias("units"), pl.lit(float("inf")).alias("units"), pl.lit(1e300).alias("units"),
        pl.lit([1, 2]).alias("units"), pl.lit("many").alias("units"), pl.lit(2**63 - 1).alias("units"),
        pl.lit(b"\xff\xfe").alias("sku_id"), pl.lit(float("nan")).alias("sku_id"), pl.lit(None).alias("sold_at"),
        pl.struct("units").alias("units"), pl.lit(-5).alias("units"), pl.lit(True).alias("units"),
        pl.lit(date(2025, 1, 1)).alias("units"), pl.lit(time(1)).alias("units"),
        pl.lit(timedelta(5)).alias("units"), pl.lit(timedelta(5)).alias("sold_at"),
        pl.lit(1_736_500_000).alias("sold_at"), pl.lit(45_000.5).alias("sold_at"), pl.lit(True).alias("sold_at"),
    ])  # fmt: skip
    return parquet_bytes(frame_of(facts).with_columns(change))


def _odd_columns(n: int) -> list[tuple[str, Any]]:
    """Columns that no row may be accepted with."""
    return [
        ("units", pa.array([2**64 - 1] * n, pa.uint64())),
        ("units", pa.array([b"\x00"] * n, pa.binary())),
        ("units", pa.array([{"a": 1}] * n)),
        ("units", pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64()))),
        ("units", pa.array([None] * n, pa.null())),
        ("units", pa.array([Decimal("1" * 50)] * n, pa.decimal256(60, 2))),
        ("units", pa.array([Decimal("2.0000000001")] * n, pa.decimal128(30, 10))),
        ("units", pa.array([5] * n, pa.duration("us"))),
        ("units", pa.array([np.float16(2.5)] * n, pa.float16())),
        ("sold_at", pa.array([2**31 - 1] * n, pa.int32()).cast(pa.date32())),
        ("sold_at", pa.array([-(2**31)] * n, pa.int32()).cast(pa.date32())),
        ("sold_at", pa.array([2**62] * n).cast(pa.timestamp("ms"))),
        ("sold_at", pa.array([2**63 - 1] * n).cast(pa.timestamp("us", tz="UTC"))),
        ("sold_at", pa.array([-(2**63)] * n).cast(pa.timestamp("ns"))),
        # 2^64 microseconds too many: cut to 64 bits it would be a time in 2025.
        ("sold_at", pa.array([(2**64 + 1_736_500_000_000_000) // 1000] * n).cast(pa.timestamp("ms"))),
        ("sold_at", pa.array([5] * n, pa.time64("ns"))),
        ("sold_at", pa.array([[2**31 - 1]] * n, pa.list_(pa.int32())).cast(pa.list_(pa.date32()))),
    ]


def odd_types(rng: Random, facts: list[Fact]) -> bytes:
    """One column of a type that hardly any writer makes."""
    name, column = rng.choice(_odd_columns(len(facts)))
    return _written(_columns(facts) | {name: column})


def sound_oddities(rng: Random, facts: list[Fact]) -> bytes:
    """The facts as they are, in types and layouts that are seldom seen."""
    columns = _columns(facts)
    sold = [fact.sold_at for fact in facts]
    units = [fact.units for fact in facts]
    change, options = rng.choice([
        ({"sold_at": columns["sold_at"].cast(pa.timestamp("ns", tz="UTC"))}, {"use_deprecated_int96_timestamps": True}),
        ({"sold_at": pa.array(sold, pa.timestamp("ms", tz="+02:00"))}, {}),
        ({"sold_at": columns["sold_at"].cast(pa.timestamp("us", tz="Foo/Bar"))}, {}),
        ({"sold_at": columns["sold_at"].cast(pa.timestamp("us", tz="+25:00"))}, {}),
        ({"sold_at": pa.array(sold, pa.timestamp("s", tz="UTC")).cast(pa.timestamp("ms", tz="America/New_York"))}, {}),
        ({"units": pa.array([Decimal(n) for n in units], pa.decimal256(50, 3))}, {}),
        ({"units": pa.array([Decimal(n) for n in units], pa.decimal128(9, 2))}, {}),
        ({"units": pa.array([float(n) for n in units])}, {}),
        ({"units": pa.array([str(n) for n in units]).dictionary_encode()}, {}),
        ({"units": pa.array(units, pa.uint8())}, {}),
        ({"sku_id": columns["sku_id"].dictionary_encode()}, {"compression": "zstd"}),
        ({"sku_id": columns["sku_id"].cast(pa.binary())}, {"data_page_version": "2.0"}),
        ({"sku_id": columns["sku_id"].cast(pa.large_string())}, {"use_dictionary": False, "row_group_size": 7}),
        ({}, {"use_dictionary": False, "column_encoding": {"sale_id": "DELTA_BYTE_ARRAY"}}),
        ({"extra": pa.array([[{"a": [n]}] for n in units])}, {"compression": "brotli"}),
        ({"extra": pa.array(units, pa.duration("ns")), "": columns["units"]}, {}),
    ])  # fmt: skip
    return _written(columns | change, **options)


def named_twice(rng: Random, facts: list[Fact]) -> bytes:
    columns = _columns(facts)
    names = [*columns, rng.choice(["units", "sku_id", "sold_at"])]
    return _written(pa.Table.from_arrays([*columns.values(), columns["revenue_cents"]], names=names))


def many_columns(facts: list[Fact], n: int) -> bytes:
    extra = {f"c{nr}": [0] * len(facts) for nr in range(n)}
    return parquet_bytes(frame_of(facts).with_columns(pl.DataFrame(extra)))


def _bombs() -> list[bytes]:
    """Kilobytes that stand for gigabytes."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000, np.int32)), pa.array(["x" * (1 << 20)]))
    values = pa.ListArray.from_arrays(pa.array([0, 1 << 26], pa.int32()), pa.array(np.zeros(1 << 26, np.int8)))
    rows = pa.array(np.zeros(11_000_000, np.int8))
    return [_written({"sku_id": text}), _written({"units": values}), _written({"units": rows})]


_MADE: list[bytes] = []


def bomb(rng: Random, facts: list[Fact]) -> bytes:
    """One of the bombs, made once a process."""
    if not _MADE:
        _MADE.extend(_bombs())
    return rng.choice(_MADE)


def lying_footer(rng: Random, facts: list[Fact]) -> bytes:
    """A footer whose length is a lie, that of another file, or none of a table."""
    body = parquet_bytes(frame_of(facts))
    other = parquet_bytes(frame_of(facts[:7]))
    footer = struct.unpack("<I", other[-8:-4])[0]
    return rng.choice([
        body[:-8] + struct.pack("<I", rng.choice([0, 1, len(body), 2**31 - 1, 2**32 - 1])) + b"PAR1",
        body[:-4] + b"PARE",
        # Offsets of the row groups of another file, over the pages of this one.
        body[: len(body) - 8 - struct.unpack("<I", body[-8:-4])[0]] + other[-8 - footer :],
        body[: len(body) // 2] + other,
        b"PAR1" + b"\x15\x00" * 50 + struct.pack("<I", 100) + b"PAR1",
    ])  # fmt: skip
