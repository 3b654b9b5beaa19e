"""Poisoned files: CSV with bad rows, and CSV, JSON lines, Parquet and gzip that are broken as a whole."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import date, time
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.poison.facts import Fact, instant
from tests.poison.json_poison import JSON_KINDS, dumped, poisoned_json

HEADER = "location_id,sold_at,sale_id,sku_id,units,revenue_cents,knowledge_time"
Offered = tuple[bytes, dict[str, Fact] | None]
"""A file's bytes, and by sale id the facts that rows accepted from it must equal; None: only crashes are judged."""


def fields_of(fact: Fact) -> list[str]:
    return [str(value) for value in fact.as_fields().values()]


def _with(column: int, *values: str) -> Callable[[Random, Fact], tuple[str, Fact | None]]:
    def make(rng: Random, fact: Fact) -> tuple[str, Fact | None]:
        fields = fields_of(fact)
        fields[column] = rng.choice(values)
        return ",".join(fields), None

    return make


def _sku(*values: str) -> Callable[[Random, Fact], tuple[str, Fact | None]]:
    def make(rng: Random, fact: Fact) -> tuple[str, Fact | None]:
        text = rng.choice(values)
        fields = fields_of(fact)
        fields[3] = '"' + text.replace('"', '""') + '"'
        return ",".join(fields), fact.but(sku_id=text)

    return make


UNITS, MONEY, SOLD, KNOWN, SKU = 4, 5, 1, 6, 3
ROW_KINDS: dict[str, Callable[[Random, Fact], tuple[str, Fact | None]]] = {
    "too few fields": lambda rng, fact: (",".join(fields_of(fact)[: rng.randint(1, 6)]), None),
    "too many fields": lambda rng, fact: (",".join([*fields_of(fact), "x"]), None),
    "other separator": lambda rng, fact: (";".join(fields_of(fact)), None),
    "no finite number": _with(UNITS, "NaN", "inf", "-Infinity", "1e999", "#N/A", "NULL"),
    "huge integer": _with(UNITS, str(2**63), "9" * 20, "9" * 400, "-" + "9" * 25),
    "part of a unit": _with(UNITS, "1.5", "0.001", "1/2"),
    "below the minimum": _with(UNITS, "-1", "-99999"),
    "number form": _with(UNITS, "0x10", "1_000", "five", "١٢", "5 pcs", "--5", "1e", "𝟝"),
    "decimal comma": _with(MONEY, '"1,50"', '"1.000,50"', '"1,000,000,000,000,000"'),
    "money form": _with(MONEY, "$5", "5 EUR", "1e30", "9" * 45),
    "no such time": _with(SOLD, "2025-02-30T10:00:00Z", "2025-01-10T25:00:00Z", "soon", "10.01.2025", "01/10/2025"),
    "skipped hour": _with(SOLD, "2025-03-30T02:30:00"),
    "far away years": _with(SOLD, "0000-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "0201-01-01T00:00:00Z"),
    "known never": _with(KNOWN, "", "x", "2025-02-30T00:00:00Z"),
    "no article": _with(SKU, "", '""'),
    "blanks around an id": _with(SKU, '" A1"', '"A1 "'),
    "formula": _sku("=1+1", "@SUM(A1)", "+1|cmd", "=cmd|' /C calc'!A0"),
    "injection": _sku("x' OR '1'='1", 'a"; drop table records;--', "../../x"),
    "other scripts": _sku("А1", "A\u202e1", "\U0001f600"),
    "line end in a cell": _sku("A\n1", "A\r\n1", "A,1"),
    "leading zeros": lambda rng, fact: (
        ",".join([*fields_of(fact)[:4], f"00{fact.units}", *fields_of(fact)[5:]]), fact),
    "whole number with a point": lambda rng, fact: (
        ",".join([*fields_of(fact)[:4], f"{fact.units}.0", *fields_of(fact)[5:]]), fact),
    "seconds left out": lambda rng, fact: (
        ",".join([fact.location_id, instant(fact.sold_at)[:16] + "Z", *fields_of(fact)[2:]]),
        fact.but(sold_at=fact.sold_at.replace(second=0))),
}  # fmt: skip


SOUND_IN_A_FILE = {"the future", "known in the future", "number for text", "no zone", "a date for a time"}
"""A feed file gives the zone, plans may lie ahead, and a cell is text whatever its quotes."""
_KINDS_IN_FILES = [kind for kind in JSON_KINDS if kind not in SOUND_IN_A_FILE]


def csv_file(rng: Random, facts: list[Fact], *, n_bad: int) -> Offered:
    """A CSV of these facts, the last `n_bad` of them poisoned, in mixed order."""
    lines: list[str] = []
    acceptable = {fact.sale_id: fact for fact in facts[: len(facts) - n_bad]}
    lines += [",".join(fields_of(fact)) for fact in acceptable.values()]
    for fact in facts[len(facts) - n_bad :]:
        text, as_fact = ROW_KINDS[rng.choice(list(ROW_KINDS))](rng, fact)
        lines.append(text)
        if as_fact is not None:
            acceptable[fact.sale_id] = as_fact
    rng.shuffle(lines)
    return "\n".join([HEADER, *lines, ""]).encode(), acceptable


def jsonl_file(rng: Random, facts: list[Fact], *, n_bad: int) -> Offered:
    """JSON lines of these facts, the last `n_bad` of them poisoned."""
    acceptable = {fact.sale_id: fact for fact in facts[: len(facts) - n_bad]}
    lines = [dumped(fact.as_fields()) for fact in acceptable.values()]
    for fact in facts[len(facts) - n_bad :]:
        _, body, as_fact = poisoned_json(rng, fact, _KINDS_IN_FILES)
        if len(body) < 100_000:
            lines.append(body.replace(b"\n", b" "))
        if as_fact is not None:
            acceptable[fact.sale_id] = as_fact
    return b"\n".join([*lines, b""]), acceptable


def _plain(facts: list[Fact]) -> bytes:
    return "\n".join([HEADER, *(",".join(fields_of(fact)) for fact in facts), ""]).encode()


def _frame(facts: list[Fact]) -> pl.DataFrame:
    return pl.DataFrame([fact.as_fields() for fact in facts])


def _parquet(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target)
    return target.getvalue()


def _flipped(rng: Random, body: bytes, first: int, last: int) -> bytes:
    damaged = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _damaged(rng: Random, facts: list[Fact], first: int, last: int) -> bytes:
    body = _parquet(_frame(facts))
    return _flipped(rng, body, first % len(body), last % len(body))


def _cut(rng: Random, body: bytes) -> bytes:
    return body[: rng.randint(3, len(body) - 1)]


def _mixed_line_ends(rng: Random, facts: list[Fact]) -> bytes:
    return _plain(facts).replace(b"\n", b"\r", 3).replace(b"\n", b"\r\n", 2)


def _wrong_types(rng: Random, facts: list[Fact]) -> bytes:
    frame = _frame(facts)
    change = rng.choice([
        pl.col("units").cast(pl.Float64) + 0.5,
        pl.lit(float("nan")).alias("units"),
        pl.lit([1, 2]).alias("units"),
        pl.lit("many").alias("units"),
        pl.lit(2**63 - 1).alias("units"),
        pl.lit(b"\xff\xfe").alias("sku_id"),
        pl.lit(None).alias("sold_at"),
        pl.struct("units").alias("units"),
        pl.lit(-5).alias("units"),
        pl.lit(True).alias("units"),
        pl.lit(date(2025, 1, 1)).alias("units"),
        pl.lit(time(1)).alias("units"),
        pl.lit(1_736_500_000).alias("sold_at"),
    ])  # fmt: skip
    return _parquet(frame.with_columns(change))


def _many_columns(facts: list[Fact]) -> bytes:
    extra = {f"c{nr}": [0] * len(facts) for nr in range(3_000)}
    return _parquet(_frame(facts).with_columns(pl.DataFrame(extra)))


def _pyarrow_oddities(rng: Random, facts: list[Fact]) -> bytes:
    n = len(facts)
    columns = {
        name: pa.array([str(v) for v in column]) for name, column in _frame(facts).to_dict(as_series=False).items()
    }
    columns["units"] = rng.choice([
        pa.array([2**64 - 1] * n, pa.uint64()),
        pa.array([b"\x00"] * n, pa.binary()),
        pa.array([{"a": 1}] * n),
        pa.array([None] * n, pa.null()),
    ])  # fmt: skip
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


_BOMB = gzip.compress(HEADER.encode() + b"\n" * (70 << 20), 9)

FILE_KINDS: dict[str, tuple[str, Callable[[Random, list[Fact]], bytes], bool]] = {
    # name: (file type, bytes, whether accepted rows are judged)
    "no bytes": ("csv", lambda rng, facts: b"", True),
    "random bytes": ("csv", lambda rng, facts: rng.randbytes(rng.randint(1, 4000)), True),
    "NUL bytes": ("csv", lambda rng, facts: _plain(facts).replace(b"A", b"\x00", 1), True),
    "invalid UTF-8": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b",\xff", 1), True),
    "UTF-16 called UTF-8": ("csv", lambda rng, facts: _plain(facts).decode().encode("utf-16"), True),
    "missing column": ("csv", lambda rng, facts: _plain(facts).replace(b"units", b"pieces", 1), True),
    "two columns of one name": ("csv", lambda rng, facts: _plain(facts).replace(b"units", b"sku_id", 1), True),
    "open quote": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b',"A', 1), True),
    "two open quotes": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b',"A', 2), True),
    "a line of 5 MB": ("csv", lambda rng, facts: _plain(facts) + b"x" * (5 << 20), True),
    "a thousand columns": ("csv", lambda rng, facts: HEADER.encode() + b",x" * 5_000 + b"\n", True),
    "mixed line ends": ("csv", _mixed_line_ends, True),
    "rows cut at the end": ("csv", lambda rng, facts: _plain(facts).rsplit(b",", 3)[0], True),
    "deep JSON": ("jsonl", lambda rng, facts: b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", True),
    "JSON bytes": ("jsonl", lambda rng, facts: rng.randbytes(500), True),
    "one JSON array": ("jsonl", lambda rng, facts: b"[" + b",".join(dumped(f.as_fields()) for f in facts) + b"]", True),
    "five thousand fields": ("jsonl", lambda rng, facts: dumped({f"f{i}": i for i in range(5_000)}) + b"\n", True),
    "no Parquet": ("parquet", lambda rng, facts: b"PAR1" + rng.randbytes(300) + b"PAR1", True),
    "Parquet cut short": ("parquet", lambda rng, facts: _cut(rng, _parquet(_frame(facts))), True),
    "Parquet with a damaged footer": ("parquet", lambda rng, facts: _damaged(rng, facts, -400, -1), False),
    "Parquet with damaged pages": ("parquet", lambda rng, facts: _damaged(rng, facts, 4, -400), False),
    "Parquet of wrong types": ("parquet", _wrong_types, True),
    "Parquet of odd types": ("parquet", _pyarrow_oddities, True),
    "Parquet of many columns": ("parquet", lambda rng, facts: _many_columns(facts), True),
    "gzip cut short": ("csv", lambda rng, facts: _cut(rng, gzip.compress(_plain(facts))), True),
    "gzip damaged": ("csv", lambda rng, facts: _flipped(rng, gzip.compress(_plain(facts)), 10, 60), True),
    "gzip in gzip": ("csv", lambda rng, facts: gzip.compress(gzip.compress(_plain(facts))), True),
    "gzip with garbage behind": ("csv", lambda rng, facts: gzip.compress(_plain(facts)) + b"garbage", True),
    "gzip bomb": ("csv", lambda rng, facts: _BOMB, True),
}  # fmt: skip


def broken_file(rng: Random, facts: list[Fact]) -> tuple[str, str, bytes, dict[str, Fact] | None]:
    """(kind, file type, bytes, acceptable facts or None where only a crash is judged)."""
    names = list(FILE_KINDS)
    kind = rng.choices(names, [0.1 if name in {"gzip bomb", "a line of 5 MB"} else 1.0 for name in names])[0]
    file_type, make, is_judged = FILE_KINDS[kind]
    return kind, file_type, make(rng, facts), {fact.sale_id: fact for fact in facts} if is_judged else None
