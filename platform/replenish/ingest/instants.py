"""Times of a source as instants in UTC, read in the feed's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

import polars as pl

from replenish.bitemporal import origin_instant_expr
from replenish.contracts.dataset import FileFormat
from replenish.errors import FileFault
from replenish.ingest.cells import integers_of

INSTANT = pl.Datetime("us", "UTC")
FIRST_INSTANT = datetime(1900, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2200, 1, 1, tzinfo=UTC)
"""Outside them a time is a typing error or a placeholder; one such row would stretch every axis over millennia."""
_FIRST_STAMP, _LAST_STAMP = (int(instant.timestamp()) * 1_000_000 for instant in (FIRST_INSTANT, LAST_INSTANT))
ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
OFFSET_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M%z",
    "%Y-%m-%d %H:%M%z",
)
_ISO_CLOCK_FORMATS = tuple(f for f in ISO_FORMATS if "%H" in f)
_IN_UTC = r"(Z|\+00:00)$"
_OFFSET = r"\d:\d.*?(Z|[+-]\d\d:?\d\d)$"
_OFFSET_OF_FORMAT = r"(Z|[+-]\d\d:?\d\d)$"
_SAMPLE = 64
_DAY = 86_400_000_000
"""Microseconds."""
_ONE_SPAN = timedelta(days=400)
"""Instants so near each other have their days looked up as one span, which is kept: most batches have the same."""


def instants_of(
    column: pl.Series, zone: str, formats: tuple[str, ...] = (), days_since: date | None = None
) -> pl.Series:
    """The column as `Datetime("us", "UTC")`, null where nothing readable, or no time of our days, stands.

    Args:
        column: Text, a typed time or date, or day numbers.
        zone: IANA zone of times without an offset. A time that a clock change skips is null; one that occurs twice is
            the first.
        formats: strptime formats, tried in order; none = ISO 8601, with or without an offset.
        days_since: Date of day number 0; the column then holds whole numbers.

    Raises:
        FileFault: `zone_contradiction`: an explicit offset other than UTC is not the offset of `zone` at that instant.
    """
    instants = _read_instants(column, zone, formats, days_since)
    # As numbers: the year 0 is no Python datetime, and asking for the least one would raise.
    stamps = instants.cast(pl.Int64())
    lowest, highest = stamps.min(), stamps.max()
    if lowest is None or (lowest >= _FIRST_STAMP and highest <= _LAST_STAMP):  # type: ignore[operator]
        return instants
    return instants.set(~stamps.is_between(_FIRST_STAMP, _LAST_STAMP).fill_null(True), None)


def _read_instants(column: pl.Series, zone: str, formats: tuple[str, ...], days_since: date | None) -> pl.Series:
    if days_since is not None:
        return _localized(_days(column, days_since), zone)
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            return _localized(column.cast(pl.Datetime("us")), zone)
        return column.dt.convert_time_zone("UTC").cast(INSTANT)
    if column.dtype == pl.Date():
        return _localized(column.cast(pl.Datetime("us")), zone)
    text = column if column.dtype == pl.String() else column.cast(pl.String())
    if any("%z" in f or "%:z" in f for f in formats):
        return _with_offset(text, zone, formats)
    if not formats and _is_repetitive(text):
        # One export says when it was made in every row: a time is read once, not a million times.
        distinct = text.unique(maintain_order=True)
        return text.replace_strict(distinct, _read_iso(distinct, zone), return_dtype=INSTANT)
    return _read_iso(text, zone) if not formats else _localized(_parsed(text, formats, pl.Datetime("us")), zone)


def _days(column: pl.Series, days_since: date) -> pl.Series:
    """Midnights of day numbers; null for what is no whole number, and beyond our days."""
    is_number = column.dtype == pl.String() or column.dtype.is_numeric()
    days = integers_of(column if is_number else column.clear(column.len()), FileFormat())
    days = days + (days_since - date(1970, 1, 1)).days
    # Before they become dates: of numbers without bounds a date would be one of another era, or end the process.
    in_our_days = days.is_between(_FIRST_STAMP // _DAY, _LAST_STAMP // _DAY)
    return days.set(~in_our_days, None).cast(pl.Int32()).cast(pl.Date()).cast(pl.Datetime("us"))


def _is_repetitive(text: pl.Series) -> bool:
    """Whether a sample from all over the column has hardly any value once."""
    sample = text.gather_every(max(text.len() // _SAMPLE, 1))
    return text.len() > _SAMPLE and sample.n_unique() <= sample.len() // 8


def _read_iso(text: pl.Series, zone: str) -> pl.Series:
    """Texts in ISO 8601; where the first ones end in Z or +00:00, that way to read is tried first."""
    sample = text.drop_nulls().head(_SAMPLE)
    if not sample.len() or not sample.str.contains(_IN_UTC).all():
        return _read_iso_zoned(text, zone)
    instants = _read_iso_in_utc(text)
    failed = (instants.is_null() & text.is_not_null()).arg_true()
    return instants if failed.is_empty() else instants.scatter(failed, _read_iso_zoned(text.gather(failed), zone))


def _read_iso_in_utc(text: pl.Series) -> pl.Series:
    """Times in UTC, without the slow reading of an offset that says nothing; null for all other texts."""
    is_z, is_zero = text.str.ends_with("Z"), text.str.ends_with("+00:00")
    bare = pl.select(pl.when(is_z).then(text.str.head(-1)).when(is_zero).then(text.str.head(-6))).to_series()
    naive_type = pl.Datetime("us")
    return _parsed(bare, _likely_first(_ISO_CLOCK_FORMATS, bare, naive_type), naive_type).dt.replace_time_zone("UTC")


def _read_iso_zoned(text: pl.Series, zone: str) -> pl.Series:
    """Times of the zone, then those with an offset."""
    naive_type = pl.Datetime("us")
    naive = _parsed(text, _likely_first(ISO_FORMATS, text, naive_type), naive_type)
    instants = _localized(naive, zone)
    failed = (naive.is_null() & text.is_not_null()).arg_true()
    return instants if failed.is_empty() else instants.scatter(failed, _with_offset(text.gather(failed), zone, ()))


def local_dates(instants: pl.Series, zone: str) -> pl.Series:
    """The calendar date of each instant in a zone."""
    days, starts = _day_cuts(instants, zone, time(0))
    return _dates_at(days, starts.search_sorted(instants.cast(pl.Int64()), side="right") - 1, instants)


def knowledge_dates(known: pl.Series, zone: str, cutoff: time) -> pl.Series:
    """`bitemporal.knowledge_date_expr` of a long column."""
    days, cuts = _day_cuts(known, zone, cutoff)
    return _dates_at(days, cuts.search_sorted(known.cast(pl.Int64()), side="left"), known)


def _day_cuts(instants: pl.Series, zone: str, wall: time) -> tuple[pl.Series, pl.Series]:
    """The days near the instants and when it is `wall` in the zone, in microseconds: one instant a day, not a row."""
    first, last = instants.min(), instants.max()
    if isinstance(first, datetime) and isinstance(last, datetime) and last - first < _ONE_SPAN:
        return _cuts_of_span(first.date(), last.date(), zone, wall)
    days = instants.dt.date().unique().drop_nulls()
    return _cuts_near(days, zone, wall)


@lru_cache(maxsize=512)
def _cuts_of_span(first: date, last: date, zone: str, wall: time) -> tuple[pl.Series, pl.Series]:
    return _cuts_near(pl.date_range(first, last, eager=True), zone, wall)


def _cuts_near(days: pl.Series, zone: str, wall: time) -> tuple[pl.Series, pl.Series]:
    # Any date asked for lies between two days before and two days after the UTC date, whatever the zone.
    near = pl.concat([days.dt.offset_by(f"{shift}d") for shift in range(-2, 3)]).unique().sort()
    cuts = near.alias("day").to_frame().select(origin_instant_expr("day", zone, wall).alias("cut"))["cut"]
    return near, cuts.cast(pl.Int64())


def _dates_at(days: pl.Series, places: pl.Series, instants: pl.Series) -> pl.Series:
    if days.is_empty():
        return pl.repeat(None, instants.len(), dtype=pl.Date(), eager=True)
    if not instants.null_count():
        return days.gather(places)
    found = instants.is_not_null()
    dates = pl.repeat(None, instants.len(), dtype=pl.Date(), eager=True)
    return dates.scatter(found.arg_true(), days.gather(places.filter(found)))


def _with_offset(text: pl.Series, zone: str, formats: tuple[str, ...]) -> pl.Series:
    readable = text.str.strip_chars().str.replace("Z$", "+00:00")
    instants = _parsed(readable, formats or _likely_first(OFFSET_FORMATS, readable, INSTANT), INSTANT)
    offset_at = _OFFSET_OF_FORMAT if formats else _OFFSET
    written = text.to_frame("text").select(pl.col("text").str.strip_chars().str.extract(offset_at, 1))["text"]
    sign = pl.when(written.str.starts_with("-")).then(-1).otherwise(1)
    minutes = pl.select(
        sign
        * (
            written.str.slice(1, 2).cast(pl.Int32(), strict=False) * 60
            + written.str.slice(-2).cast(pl.Int32(), strict=False)
        )
    ).to_series()
    local = instants.dt.convert_time_zone(zone)
    offset = (local.dt.base_utc_offset() + local.dt.dst_offset()).dt.total_minutes()
    # The parser takes more for an offset than is one (a typographic minus): what cannot be held to the zone is no time.
    instants = instants.set((written.is_null() & instants.is_not_null()).fill_null(False), None)
    # UTC is a way to write an instant, in any zone; every other offset claims to be the local one.
    contradiction = ((minutes != 0) & (minutes != offset)).fill_null(False)
    if contradiction.any():
        example = text.filter(contradiction)[0]
        raise FileFault("zone_contradiction", f"{example} is not a time of {zone}", column=text.name)
    return instants


def _parsed(text: pl.Series, formats: tuple[str, ...], dtype: pl.Datetime) -> pl.Series:
    """Each format in turn on what is still unread."""
    values = _strptime(text, formats[0], dtype)
    for text_format in formats[1:]:
        unread = (values.is_null() & text.is_not_null()).arg_true()
        if unread.is_empty():
            break
        values = values.scatter(unread, _strptime(text.gather(unread), text_format, dtype))
    return values


def _likely_first(formats: tuple[str, ...], text: pl.Series, dtype: pl.Datetime) -> tuple[str, ...]:
    """Formats of which no text fits two, the one of the first values in front: most columns have only one."""
    sample = text.drop_nulls().head(_SAMPLE)
    fitting = (f for f in formats if _strptime(sample, f, dtype).null_count() < sample.len())
    first = next(fitting, formats[0])
    return (first, *(f for f in formats if f != first))


def _strptime(text: pl.Series, text_format: str, dtype: pl.Datetime) -> pl.Series:
    values = _to_datetime(text, text_format, dtype)
    # The parser takes a second 60 for the first one of the next minute.
    odd = (text.str.contains("60", literal=True) & (values.dt.second() == 0)).fill_null(False).arg_true()
    if odd.is_empty():
        return values
    given, read = text.gather(odd), values.gather(odd)
    is_leap = pl.repeat(False, odd.len(), dtype=pl.Boolean(), eager=True)
    for one_less in (given.str.replace("60", "59", literal=True), given.str.replace("^(.*)60", "${1}59")):
        is_leap |= (read - _to_datetime(one_less, text_format, dtype) == timedelta(seconds=1)).fill_null(False)
    return values.scatter(odd.filter(is_leap), None)


def _to_datetime(text: pl.Series, text_format: str, dtype: pl.Datetime) -> pl.Series:
    return text.str.to_datetime(text_format, time_unit="us", strict=False, time_zone=dtype.time_zone, cache=False)


def _localized(naive: pl.Series, zone: str) -> pl.Series:
    if zone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")
