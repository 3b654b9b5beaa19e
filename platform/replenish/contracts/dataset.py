"""A data set and its feeds: how known sources map to contracts, without any Python.

Read from `platform/feeds/*.yaml` or a user's own file by `contracts.dataset_reader`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, time
from typing import Literal

FileType = Literal["csv", "parquet", "jsonl"]
FeedDoor = Literal["files", "events"]

STAGE_OPTIONS = ("forecast", "decide", "outcomes")
"""Stages that a data set may give settings of its own."""

ASSUMABLE_INPUTS = (
    "lead_time_days",
    "on_hand_units",
    "unit_cost_cents",
    "unit_price_cents",
    "pack_size_units",
    "min_order_units",
)
"""Inputs of a decision that may be assumed where a data set has none: whole numbers, not negative."""


@dataclass(frozen=True)
class FileFormat:
    """How the bytes of a file are read. Compression (gzip) and line ends (LF, CRLF, CR) are detected, not declared."""

    type: FileType = "csv"
    separator: str = ","
    encoding: str = "utf-8"
    quote: str = '"'
    decimal: str = "."
    thousands: str | None = None
    null_values: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class ColumnRule:
    """How one contract column is made from a source row; exactly one of the ways is given.

    `column`: copy (after `transform`, `null_values`, `formats`, `factor`); `value`: a constant; `template`: text with
    `{Source Column}` places; `content_of`: an id made of the named source columns (all: `("*",)`) plus an occurrence
    number within `batch`, for sources without a key; `cases`: first regular expression that matches `column` gives the
    value.
    """

    column: str | None = None
    value: str | int | float | bool | None = None
    template: str | None = None
    content_of: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()
    cases: tuple[tuple[str, str], ...] = ()
    transform: tuple[str, ...] = ()
    """Of `strip`, `upper`, `lower` (on the text, in order) and `absolute` (on the number, after `multiply_by` and
    `factor`)."""
    factor: float | None = None
    """Source unit to contract unit, e.g. 100 for a price in euros to cents; the result is rounded half to even."""
    multiply_by: str | None = None
    """A second source column to multiply with, e.g. quantity times price."""
    formats: tuple[str, ...] = ()
    """strptime formats of a time, tried in order; none = ISO 8601."""
    days_since: date | None = None
    """The source holds a day number; day 0 is this date."""
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowTest:
    """A test on source columns: all given conditions must hold.

    A missing value fulfils only `is_null` and `not_matches`. `matches` and `not_matches` search the text as read
    (anchor with ^ and $), `at_most` and `at_least` read it as a number of the feed's format, `before_column` reads both
    columns as times by `formats` in the feed's zone.
    """

    column: str
    matches: str | None = None
    not_matches: str | None = None
    equals: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    is_null: bool | None = None
    before_column: str | None = None
    """The time in `column` lies before the time in this column (both read by the feed's rules)."""
    formats: tuple[str, ...] = ()
    and_also: tuple[RowTest, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """Rows left out on purpose: dead-lettered under `reason`, not counted against `max_dead_share`."""

    reason: str
    when: RowTest


@dataclass(frozen=True)
class KnowledgeRule:
    """Where `knowledge_time` comes from: `arrival`, a `column`, or event time plus a declared `delay`."""

    source: Literal["arrival", "column", "delay"]
    column: str | None = None
    formats: tuple[str, ...] = ()
    delay_hours: float = 0.0
    else_arrival: bool = False
    """With `column`: a row that leaves it empty became known when it arrived."""


@dataclass(frozen=True)
class CancellationRule:
    """How a cancellation finds the sale it takes back: newest earlier unconsumed sale with equal `match_columns`."""

    when: RowTest
    match_columns: tuple[str, ...]
    window_days: int = 3660


@dataclass(frozen=True)
class Feed:
    """One source of one stream. `feed_id` is the CloudEvents `source`."""

    feed_id: str
    stream: str
    files: tuple[str, ...]
    """Globs on the file name; none where the feed takes single events."""
    format: FileFormat
    zone: str
    """IANA zone of times without an offset; `event_date` is the date in it."""
    columns: dict[str, ColumnRule]
    knowledge: KnowledgeRule
    exclude: tuple[Exclusion, ...] = ()
    retraction: RowTest | None = None
    cancellation: CancellationRule | None = None
    ignore_columns: tuple[str, ...] = ()
    """Known and not wanted; every other unmapped source column is kept in `unmapped`."""
    door: FeedDoor = "files"
    """`events`: single events (HTTP, change data capture, Kafka), JSON objects of the source's fields."""


@dataclass(frozen=True)
class Dataset:
    """The feeds of one deployment and what the stages need to know about it."""

    dataset_id: str
    zone: str
    """IANA zone of the deployment: origins and `knowledge_date` are cut in it."""
    cutoff: time
    profile: str
    """Name of the forecast profile, a file in `platform/policies/forecast/`."""
    origin: date | None
    """The origin a run takes when none is given; None = the newest knowledge date."""
    feeds: tuple[Feed, ...]
    options: dict[str, object] = field(default_factory=dict)
    """Free settings of one stage, keyed by stage name (`forecast`, `decide`, `outcomes`)."""
    assumptions: dict[str, object] = field(default_factory=dict)
    """From `ASSUME=<yaml>`: inputs that were assumed, not known; rows that rest on them say so."""

    def feeds_of(self, stream: str) -> tuple[Feed, ...]:
        """The declared feeds of this stream; contract-shaped events may deliver it without any."""
        return tuple(f for f in self.feeds if f.stream == stream)
