"""The feature catalogue, `docs/features.md`: what every feature means, generated from the definitions.

The same words stand on the assets (`feature_rows`, `aggregation_words`), so that a screen and the page never differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from replenish.contracts.model import Contract
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.features.definitions.aggregation_words import AGGREGATION_WORDS
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import (
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    SourceColumn,
    feature_type,
)
from replenish.features.definitions.sources import feature_classification

CATALOGUE_FILE = PLATFORM_FOLDER.parent / "docs" / "features.md"

_HEAD = """# Features

Generated from `platform/features/*.yaml` by `replenish features catalogue`; do not edit. Every value is what was known
at the instant `as_of`: rows with a later `knowledge_time` have no influence, whatever their event time.

`t` is the newest origin date whose cut-off is not after `as_of`. A window of `w` days with offset `o` covers the event
dates t-o-w to t-o-1. *D* of a date is the sum of the value over what was known of it, corrections and cancellations
taken off, *N* the number of facts. A date is *observed* where N or D is not 0 (a return may stand on a date without a
sale), *active* where D is not 0. A set with the clock `daily` is asked at cut-offs, one with `instant` at any instant.
A feature with a `where` sees only postings whose column has that value, of D, N and versions alike; a null has none.

A source whose postings are *summed by day* (`grain: increments`) has one row per key, event date and knowledge date,
the first origin date at whose cut-off its postings are known; its `lines` are the change of N over all facts. At
cut-offs it gives what the postings give. It answers no set with the clock `instant`, no `last`, no `where`, and of a
value that may be null no `count`, `min`, `max` nor the denominator `observed`: sums do not hold what these need.

To add or change a feature: edit the set's file, raise its `version` if a meaning changes (words and owners are free),
then `replenish features record`, `replenish features catalogue`, `make check`. One name has one meaning over all sets.
A classification is the strictest of the contract columns read. `for_days: [7, 28]` in a file stands for one
feature a number, which takes the place of `{days}`.
"""


@dataclass(frozen=True)
class FeatureRow:
    """One feature in words; each field is a column of the catalogue."""

    name: str
    meaning: str
    reads: str
    """Aggregation, column, window, filter."""
    type: str
    unit: str
    source: str
    owner: str
    classification: str
    consumers: str


FEATURE_COLUMNS = ("feature", *(field.name for field in fields(FeatureRow)[1:]))


def feature_rows(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> list[FeatureRow]:
    """The features of a set in words, in file order; expects a set without mistakes."""
    return [
        FeatureRow(
            name=feature.name,
            meaning=feature.description,
            reads=feature_reading(feature),
            type=feature_type(feature_set, feature),
            unit=feature.unit,
            source=", ".join(_tables(feature_set, feature)),
            owner=feature.owner or feature_set.owner,
            classification=feature_classification(feature_set, feature, contracts),
            consumers=", ".join((*_ratios_over(feature_set, feature.name), *feature_set.consumers)) or "none yet",
        )
        for feature in feature_set.features
    ]


def feature_reading(feature: FeatureDefinition) -> str:
    """What a feature reads, in one short phrase.

    >>> feature_reading(FeatureDefinition("u", "sum", "units", "", "sales", "units", window_days=7, offset_days=1))
    'sum of units, 7 days, offset 1'
    """
    if feature.aggregation == "ratio":
        return f"{feature.numerator} / {feature.denominator_feature}"
    words = [f"{feature.aggregation} of {feature.value or 'all facts'}"]
    if feature.where is not None:
        words[0] += f" where {feature.where.column} = {feature.where.equals}"
    if feature.window_days is not None:
        words.append(f"{feature.window_days} days")
    if feature.offset_days:
        words.append(f"offset {feature.offset_days}")
    if feature.lag_days is not None:
        words.append(f"{feature.lag_days} days back")
    if feature.denominator is not None:
        words.append(feature.denominator)
    if feature.time_to_live_days is not None:
        words.append(f"not older than {feature.time_to_live_days} days")
    return ", ".join(words)


def catalogue_text(feature_sets: Iterable[FeatureSet], contracts: Mapping[str, Contract]) -> str:
    """The whole page, as Markdown."""
    aggregations = _markdown(
        ("aggregation", "value", "type", "empty window, nothing known", "nulls", "denominator", "ties"),
        (astuple(words) for words in AGGREGATION_WORDS),
    )
    parts = [_HEAD, "## Aggregations\n", aggregations]
    for feature_set in feature_sets:
        parts += _set_parts(feature_set, contracts)
    return "\n".join(parts)


def catalogue_is_current(text: str, path: Path = CATALOGUE_FILE) -> bool:
    """Whether the page holds this text."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _set_parts(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> list[str]:
    sources = [
        (s.name, f"`{s.table}`", s.stream, _postings_text(s), ", ".join(s.fact_key), _columns_text(s.columns))
        for s in feature_set.sources
    ]
    rows = [(f"`{r.name}`", *astuple(r)[1:]) for r in feature_rows(feature_set, contracts)]
    parts = [
        f"## {feature_set.name} {feature_set.version}\n",
        f"{feature_set.description} Clock `{feature_set.clock}`, entity ({', '.join(feature_set.entity)}), owner "
        f"{feature_set.owner}, consumers: {', '.join(feature_set.consumers) or 'none yet'}. "
        f"Id `{feature_set_digest(feature_set)}`.\n",
        _markdown(("source", "table", "stream", "postings", "fact key", "columns"), sources),
        _markdown(FEATURE_COLUMNS, rows),
    ]
    if feature_set.targets:
        targets = [
            (t.name, f"{t.source}.{t.value}", f"t{t.first_day:+d} to t{t.first_day + t.horizon_days - 1:+d}")
            for t in feature_set.targets
        ]
        parts.append("No feature reads the days of a target:\n")
        parts.append(_markdown(("target", "reads", "days"), targets))
    if feature_set.known_future:
        planned = [(c.name, c.reads, c.unit, c.description) for c in feature_set.known_future]
        parts.append("Planned columns, which may be known for the days of a target:\n")
        parts.append(_markdown(("column", "reads", "unit", "meaning"), planned))
    return parts


def _postings_text(source: FeatureSource) -> str:
    kinds = ", ".join(source.posting_kinds)
    return f"{kinds}: summed by day, {source.lines} their count" if source.is_increments else kinds


def _columns_text(columns: Iterable[SourceColumn]) -> str:
    texts = []
    for column in columns:
        renamed = "" if column.name == column.from_column else f" (from {column.from_column})"
        texts.append(f"{column.name}{renamed}{' (planned)' if column.is_planned else ''}")
    return ", ".join(texts)


def _tables(feature_set: FeatureSet, feature: FeatureDefinition) -> tuple[str, ...]:
    """Tables behind a feature, each once."""
    if feature.source is not None:
        return (feature_set.source(feature.source).table,)
    parts = (feature_set.feature(name or "") for name in (feature.numerator, feature.denominator_feature))
    return tuple(dict.fromkeys(table for part in parts for table in _tables(feature_set, part)))


def _ratios_over(feature_set: FeatureSet, name: str) -> tuple[str, ...]:
    return tuple(f.name for f in feature_set.features if name in (f.numerator, f.denominator_feature))


def _markdown(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    """A table with one line a row; a bar in a cell is escaped."""
    lines = [header, ("---",) * len(header), *(tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
