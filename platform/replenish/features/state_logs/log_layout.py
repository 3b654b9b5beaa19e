"""How a stored state log is parted: by build, by bucket of the entity, and by the month a row is known from.

The bucket bounds what a build holds in memory and keeps a correction away from other entities. The month keeps a day of
new facts, which concerns nearly every entity, away from everything that was known before: rows that hold from an
instant on depend on nothing that became known later. The build tells a log that is being built apart from the one that
it will take the place of.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

LOG_PART = "log_part"
"""Partition column: build, log2 of the number of buckets, month of `known_from` (UTC), bucket; see `LogPart.number`."""

ROWS_PER_BUCKET = 1_000_000
"""Postings of a bucket at most, when a log is built: some 400 MB while its log is made."""
MOST_BUCKETS = 512

ENTITY_CODE = "_entity_code"
"""Column of `with_entity_codes`: UInt32."""

_PART_FILE = re.compile(rf"(?:^|/){LOG_PART}=(\d+)/")


class LogPart(NamedTuple):
    """One partition of a log."""

    build: int
    n_buckets: int
    """A power of two."""
    month: int
    """Year and month of `known_from`, as 202501."""
    bucket: int

    @property
    def number(self) -> int:
        """Its value in the partition column.

        >>> LogPart(3, 16, 202501, 7).number
        34202501007
        """
        return part_base(self.build, self.n_buckets) + self.month * 1_000 + self.bucket

    @classmethod
    def of(cls, number: int) -> LogPart:
        """The partition of a value in the partition column.

        >>> LogPart.of(34202501007)
        LogPart(build=3, n_buckets=16, month=202501, bucket=7)
        """
        head, rest = divmod(number, 1_000_000_000)
        return cls(head // 10, 1 << (head % 10), rest // 1_000, rest % 1_000)


def part_base(build: int, n_buckets: int) -> int:
    """What all partitions of a build have in common."""
    return (build * 10 + n_buckets.bit_length() - 1) * 1_000_000_000


def bucket_count(n_postings: int, rows_per_bucket: int = ROWS_PER_BUCKET) -> int:
    """Buckets for a log of so many postings: the least power of two that keeps to `rows_per_bucket`.

    >>> [bucket_count(n) for n in (0, 1_000_000, 1_000_001, 10_000_000)]
    [1, 1, 2, 16]
    """
    n_buckets = 1
    while n_buckets < MOST_BUCKETS and n_postings > n_buckets * rows_per_bucket:
        n_buckets *= 2
    return n_buckets


def with_entity_codes(entities: pl.DataFrame, entity: Sequence[str]) -> pl.DataFrame:
    """Entities (one row each) with `ENTITY_CODE`, a CRC-32 of their key as text: equal on every machine and version."""
    words = entities.select(
        pl.concat_str([pl.col(name).cast(pl.String).fill_null("\0") for name in entity], separator="\x1f")
    ).to_series()
    codes = [zlib.crc32(word.encode()) for word in words]
    return entities.with_columns(pl.Series(ENTITY_CODE, codes, dtype=pl.UInt32))


def bucket_of_code(n_buckets: int) -> pl.Expr:
    """Bucket (Int64) of each row with an `ENTITY_CODE`."""
    return (pl.col(ENTITY_CODE) % n_buckets).cast(pl.Int64)


def log_part_expr(bucket: pl.Expr, build: int, n_buckets: int) -> pl.Expr:
    """The partition (Int64) of rows with `known_from`, given their bucket."""
    day = pl.col("known_from").dt
    month = day.year().cast(pl.Int64) * 100 + day.month().cast(pl.Int64)
    return (pl.lit(part_base(build, n_buckets)) + month * 1_000 + bucket).cast(pl.Int64).alias(LOG_PART)


def parts_of_files(paths: Iterable[str]) -> list[LogPart]:
    """The partitions that data files lie in, sorted."""
    found = (_PART_FILE.search(path) for path in paths)
    return [LogPart.of(number) for number in sorted({int(match.group(1)) for match in found if match is not None})]
