"""The contract gate for one chunk of source rows: sound rows flow on, the others become dead letters with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.contracts.validate import FAULT_MASK, UNCASTABLE_SUFFIX, RowChecks
from replenish.ingest.mapping import FeedMapping, json_of
from replenish.ingest.readers import BrokenRow, SourceChunk
from replenish.ingest.row_tests import first_exclusion

DEAD_SCHEMA: dict[str, pl.DataType] = {
    "row_nr": pl.Int64(),
    "reason": pl.String(),
    "field": pl.String(),
    "rule": pl.String(),
    "raw": pl.String(),
}
"""Dead rows of one file: one row each, the fields of a `DeadLetter`."""


@dataclass(frozen=True)
class GatedChunk:
    """What became of one chunk; every offered row is in exactly one of the two frames."""

    sound: pl.DataFrame
    """Rows as `FeedMapping.apply` makes them, without flags, with `row_nr`; order of the file."""
    dead: pl.DataFrame
    """`DEAD_SCHEMA`, in order of `row_nr`."""
    n_faulty: int
    """Dead rows that are faults; the others were left out on purpose."""


def gate_chunk(chunk: SourceChunk, mapping: FeedMapping, checks: RowChecks) -> GatedChunk:
    """Map and judge the rows of a chunk.

    Raises:
        FileFault: `zone_contradiction`.
    """
    dead = [_broken_letters(chunk.broken)]
    source, row_nrs = chunk.frame, chunk.row_nrs
    if mapping.feed.exclude:
        reason = first_exclusion(source, mapping.feed)
        out = reason.is_not_null()
        if out.any():
            dead.append(_letters(source.filter(out), row_nrs.filter(out), reason.filter(out)))
            source, row_nrs = source.filter(~out), row_nrs.filter(~out)
    n_excluded = sum(frame.height for frame in dead) - len(chunk.broken)
    rows = _judge(mapping.apply(source).with_columns(row_nrs.alias("row_nr")), mapping, checks)
    faulty = rows[FAULT_MASK] != 0
    if faulty.any():
        bad = faulty.arg_true()
        dead.append(_fault_letters(source[bad], rows[bad], checks))
        rows = rows.filter(~faulty)
    flags = [name for name in rows.columns if name.endswith(UNCASTABLE_SUFFIX)]
    letters = pl.concat(dead).sort("row_nr")
    return GatedChunk(rows.drop(FAULT_MASK, *flags), letters, letters.height - n_excluded)


_NO_KNOWLEDGE_TIME = 1 << 62
"""Above every bit a contract may use: the row does not say when it became known."""


def _judge(rows: pl.DataFrame, mapping: FeedMapping, checks: RowChecks) -> pl.DataFrame:
    rows = checks.judge(rows)
    contract = mapping.contract
    if rows["is_retraction"].any():
        # A retraction names a fact; whatever else it carries is not taken over and needs no sense.
        key_bits = sum(1 << fault.bit for fault in checks.faults if fault.field in contract.fact_key)
        time_bits = sum(1 << fault.bit for fault in checks.faults if fault.field == contract.event_time)
        # Where the mapping found a time, its column may be empty: deleted rows of a source keep their key alone.
        named = pl.when(pl.col("event_time").is_null()).then(key_bits | time_bits).otherwise(key_bits)
        mask = pl.when("is_retraction").then(pl.col(FAULT_MASK) & named).otherwise(pl.col(FAULT_MASK))
        rows = rows.with_columns(mask.alias(FAULT_MASK))
    if rows["knowledge_time"].null_count():
        # Without an event time there is no delayed knowledge time either; the contract's own rule names that.
        unknown = pl.col("knowledge_time").is_null() & (pl.col(FAULT_MASK) == 0)
        mask = pl.when(unknown).then(pl.lit(_NO_KNOWLEDGE_TIME)).otherwise(pl.col(FAULT_MASK))
        rows = rows.with_columns(mask.alias(FAULT_MASK))
    return rows


def _fault_letters(source: pl.DataFrame, rows: pl.DataFrame, checks: RowChecks) -> pl.DataFrame:
    known = {_NO_KNOWLEDGE_TIME: ("bad_time", "knowledge_time", "knowledge_time is a timestamp")}
    for mask in rows[FAULT_MASK].unique().to_list():
        if mask != _NO_KNOWLEDGE_TIME:
            fault = checks.first_fault(mask)
            known[mask] = (fault.reason, fault.field, fault.rule)
    columns = {
        name: rows[FAULT_MASK].replace_strict(
            {mask: fault[nr] for mask, fault in known.items()}, return_dtype=pl.String()
        )
        for nr, name in enumerate(("reason", "field", "rule"))
    }
    return _letters(source, rows["row_nr"], columns["reason"], columns["field"], columns["rule"])


def _letters(
    source: pl.DataFrame,
    row_nrs: pl.Series,
    reason: pl.Series,
    field: pl.Series | None = None,
    rule: pl.Series | None = None,
) -> pl.DataFrame:
    columns = {"row_nr": row_nrs, "reason": reason, "field": field, "rule": rule, "raw": json_of(source)}
    return pl.DataFrame(columns, schema=DEAD_SCHEMA) if field is not None else _without_field(columns)


def _without_field(columns: dict[str, pl.Series | None]) -> pl.DataFrame:
    given = pl.DataFrame({name: column for name, column in columns.items() if column is not None})
    return given.select(
        (pl.col(n) if columns[n] is not None else pl.lit(None)).cast(dtype).alias(n) for n, dtype in DEAD_SCHEMA.items()
    )


def _broken_letters(broken: tuple[BrokenRow, ...]) -> pl.DataFrame:
    rows = [(row.row_nr, row.reason, None, row.rule, row.raw) for row in broken]
    return pl.DataFrame(rows, schema=DEAD_SCHEMA, orient="row")
