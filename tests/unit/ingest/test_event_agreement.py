"""Single events at their door and rows of files are judged alike, but for what JSON's types forbid."""

import json
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.contracts.dataset import Dataset
from replenish.contracts.event_struct import event_struct
from replenish.contracts.model import Column, Contract
from replenish.contracts.reader import read_contracts
from replenish.contracts.validate import FAULT_MASK, compile_row_checks
from replenish.errors import EventFault
from replenish.ingest.events.event_feeds import identity_feed
from replenish.ingest.events.event_frame import SourceEvent, source_frame
from replenish.ingest.json_lines import parse_json_lines
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.strict_json import strict_object

NOW = datetime(2025, 2, 1, tzinfo=UTC)
CONTRACTS = read_contracts()
STRICTER = {"naive_time", "clock_skew", "not_text", "not_a_number", "not_a_flag", "bad_time", "not_allowed"}
"""Reasons by which the door may refuse what a file may say: a time without offset, a number in quotes, `yes`."""

_TEXTS = st.sampled_from(["A", "A 1", " A", "A ", "", "\u00e4", "5", "1.0", "x\ny", "EUR", "store", "\u2003A", "A\n"])
_NUMBERS = st.sampled_from(
    [0, 1, -1, 5, 366, 367, 10**12, 10**12 + 1, -(10**12), 2**62, 0.5, 2.0, -0.0, 1e3, 1e15, 1e-7]
)
_TIMES = st.sampled_from(
    ["2025-01-10T12:00:00Z", "2025-01-10T12:00:00.123456Z", "2025-01-10 12:00:00+00:00", "2025-01-10T12:00:00",
     "2025-01-10", "2025-02-30T12:00:00Z", "1899-12-31T23:59:59Z", "2200-01-01T00:00:01Z", "2031-01-01T00:00:00Z",
     "2025-01-10T24:00:00Z", "2025-01-10T23:59:60Z", "now"]
)  # fmt: skip
_ANY = st.one_of(st.none(), st.booleans(), _TEXTS, _NUMBERS, _TIMES)


def _fitting(column: Column) -> Any:
    texts = column.allowed or ("A", "B 2")
    values = {"string": texts[-1], "integer": 2, "number": 2.25, "boolean": True}
    return values.get(
        column.logical_type, "2025-01-10T12:00:00Z" if column.logical_type == "timestamp" else "2025-01-10"
    )


@st.composite
def events(draw: st.DrawFn) -> tuple[Contract, dict[str, Any]]:
    """An event of one of our contracts of which at most two fields are anything, or absent."""
    contract = CONTRACTS[draw(st.sampled_from(sorted(CONTRACTS)))]
    value = {column.name: _fitting(column) for column in contract.columns}
    for name in draw(st.sets(st.sampled_from(contract.names), max_size=2)):
        kind = contract.column(name).logical_type
        likely = {"string": _TEXTS, "integer": _NUMBERS, "number": _NUMBERS, "timestamp": _TIMES}.get(kind, _ANY)
        value[name] = draw(likely | likely | _ANY)
        if draw(st.integers(0, 9)) == 0:
            del value[name]
    if draw(st.booleans()):
        value["knowledge_time"] = draw(st.just("2025-01-11T00:00:00Z") | st.none())
    return contract, value


def _mapping(contract: Contract) -> FeedMapping:
    return FeedMapping(identity_feed(contract, "UTC"), contract, Dataset("d", "UTC", time(6), "demo", None, ()), NOW)


def _as_a_file_would(contract: Contract, body: bytes) -> pl.DataFrame:
    """The event read as a line of a JSON file: every field is text."""
    mapping = _mapping(contract)
    frame, _ = parse_json_lines([body.decode()])
    absent = [name for name in mapping.source_columns() if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, pl.String()).alias(name) for name in absent)
    return compile_row_checks(contract).judge(mapping.apply(frame))


@settings(max_examples=600, deadline=None)
@given(events())
def test_the_door_and_the_row_checks_agree(drawn: tuple[Contract, dict[str, Any]]) -> None:
    contract, value = drawn
    body = json.dumps(value).encode()
    row = _as_a_file_would(contract, body)
    try:
        event_struct(contract).read(strict_object(body), NOW)
    except EventFault as fault:
        assert row[FAULT_MASK][0] or fault.reason in STRICTER, fault
        return
    assert not row[FAULT_MASK][0], compile_row_checks(contract).faults_of(row[FAULT_MASK][0])
    mapping = _mapping(contract)
    source = source_frame([SourceEvent(1, body, False, NOW)], mapping, is_identity=True)
    typed = compile_row_checks(contract).judge(mapping.apply(source.frame))
    names = [*contract.names, "event_time", "event_date", "knowledge_time", "knowledge_date", FAULT_MASK]
    assert typed.select(names).equals(row.select(names))


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=list(CONTRACTS))
def test_every_contract_takes_an_event_that_fits_it(contract: Contract) -> None:
    value = {
        c.name: {
            "string": c.allowed[0] if c.allowed else "A",
            "integer": int(c.minimum or 0),
            "number": c.minimum or 0.0,
            "boolean": True,
            "timestamp": "2025-01-10T12:00:00Z",
            "date": "2025-01-10",
        }[c.logical_type]
        for c in contract.columns
    }
    event_struct(contract).read(value, NOW)
    only_key = {name: value[name] for name in contract.fact_key}
    event_struct(contract, is_delete=True).read(only_key, NOW)
    for name in contract.fact_key:
        with pytest.raises(EventFault, match="missing_required"):
            event_struct(contract, is_delete=True).read({k: v for k, v in only_key.items() if k != name}, NOW)


def _with(column: Column) -> Contract:
    contract = CONTRACTS["sales"]
    return replace(contract, columns=(*contract.columns, column))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (Column("kind", "string", "", allowed=("a", "b")), "c", "not_allowed"),
        (Column("kind", "string", "", allowed=("a", "b"), pattern="a"), "b", "not_allowed"),
        (Column("share", "number", "", minimum=0, maximum=1), 1.5, "above_maximum"),
        (Column("share", "number", "", minimum=0.25), 0, "below_minimum"),
        (Column("share", "number", ""), "0.5", "not_a_number"),
        (Column("count", "integer", "", minimum=0.5), 0, "below_minimum"),
        (Column("count", "integer", "", maximum=1.5), 2, "above_maximum"),
        (Column("flag", "boolean", ""), 1, "not_a_flag"),
        (Column("flag", "boolean", ""), "true", "not_a_flag"),
        (Column("day", "date", ""), "2025-02-30", "bad_time"),
        (Column("code", "string", "", pattern="[A-Z]+"), "AB\n", "pattern_mismatch"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_rules_that_no_contract_of_ours_has_yet(column: Column, value: object, reason: str) -> None:
    sound = {"location_id": "S", "sold_at": "2025-01-10T12:00:00Z", "sale_id": "r", "sku_id": "A", "units": 1}
    with pytest.raises(EventFault) as caught:
        event_struct(_with(column)).read({**sound, column.name: value}, NOW)
    assert (caught.value.reason, caught.value.field) == (reason, column.name)
