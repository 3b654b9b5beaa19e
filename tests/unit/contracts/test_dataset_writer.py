"""The resolved copy of a data set means what the data set meant, whatever its texts look like to YAML."""

import tempfile
from datetime import date, time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.contracts.dataset import (
    CancellationRule,
    ColumnRule,
    Dataset,
    Exclusion,
    Feed,
    FileFormat,
    KnowledgeRule,
    RowTest,
)
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts

CONTRACTS: dict[str, Contract] = read_contracts()
TRICKY = [
    "PO / SO #",
    "no",
    "1e5",
    "08",
    "06:00",
    "~",
    "null",
    "a: b",
    "- x",
    "*",
    "&a",
    "=",
    "Menge (Stück)",
    "{q}-{l}",
]

texts = st.sampled_from(TRICKY) | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)
text_lists = st.lists(texts, min_size=1, max_size=3).map(tuple)
patterns = st.sampled_from([r"^\s*\d{5}", "^C", "#", "a|b", ": "])
numbers = st.floats(-1e6, 1e6)
dates = st.dates()

row_tests = st.builds(
    RowTest,
    column=texts,
    matches=st.none() | patterns,
    equals=texts,
    at_most=st.none() | numbers,
    is_null=st.none() | st.booleans(),
    and_also=st.lists(st.builds(RowTest, column=texts, not_matches=patterns), max_size=2).map(tuple),
) | st.builds(RowTest, column=texts, before_column=texts, formats=text_lists)
column_rules = st.one_of(
    st.builds(
        ColumnRule,
        column=texts,
        cases=st.lists(st.tuples(patterns, texts), max_size=2).map(tuple),
        transform=st.lists(st.sampled_from(["strip", "upper", "absolute"]), max_size=2).map(tuple),
        factor=st.none() | numbers,
        multiply_by=st.none() | texts,
        formats=st.just(()) | text_lists,
        days_since=st.none() | dates,
        null_values=st.just(()) | text_lists,
    ),
    st.builds(ColumnRule, value=texts | st.integers() | st.booleans() | numbers),
    st.builds(ColumnRule, template=texts),
    st.builds(ColumnRule, content_of=text_lists, batch=st.just(()) | text_lists),
)
formats = st.builds(
    FileFormat,
    type=st.sampled_from(["csv", "parquet", "jsonl"]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'", ""]),
    decimal=st.sampled_from([".", ","]),
    null_values=st.just(("",)) | st.just(()) | text_lists,
)
knowledge = st.one_of(
    st.just(KnowledgeRule("arrival")),
    st.builds(KnowledgeRule, source=st.just("column"), column=texts, formats=st.just(()) | text_lists),
    st.builds(KnowledgeRule, source=st.just("delay"), delay_hours=st.floats(0, 1000)),
)
feeds = st.builds(
    Feed,
    feed_id=st.just("shop.till"),
    stream=st.just("sales"),
    files=text_lists,
    format=formats,
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    columns=st.fixed_dictionaries({c.name: column_rules for c in CONTRACTS["sales"].columns if c.is_required}),
    knowledge=knowledge,
    exclude=st.lists(st.builds(Exclusion, st.just("gift"), row_tests), max_size=2).map(tuple),
    retraction=st.none() | row_tests,
    cancellation=st.none() | st.builds(CancellationRule, row_tests, st.just(("sku_id",)), st.integers(1, 99)),
    ignore_columns=st.just(()) | text_lists,
)
datasets = st.builds(
    Dataset,
    dataset_id=st.sampled_from(["shop", "0815", "1e5"]),
    zone=st.sampled_from(["UTC", "America/New_York"]),
    cutoff=st.times().map(lambda t: time(t.hour, t.minute)),
    profile=st.sampled_from(["demo", "weekly"]),
    origin=st.none() | st.dates(date(1971, 1, 1)),
    feeds=feeds.map(lambda feed: (feed,)),
    assumptions=st.just({}) | st.just({"lead_time_days": 9}),
)


@settings(deadline=None, max_examples=80)
@given(datasets)
def test_a_resolved_copy_is_read_back_as_the_same_data_set(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert read_dataset(write_dataset(dataset, Path(folder) / "dataset.yaml"), CONTRACTS) == dataset
