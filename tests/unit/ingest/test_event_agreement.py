"""Single events at their door and rows of files are judged alike, but for what JSON's types forbid."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

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

ODD: list[Any] = [
    *(None, True, False, [], {}, [1], {"a": 1}),
    *("A", "A 1", " A", "A ", "", "\u00e4", "5", "1.0", "x\ny", "EUR", "store", "\u2003A", "A\n", "A\t", "yes", "true"),
    *(0, 1, -1, 5, 366, 367, 10**12, 10**12 + 1, -(10**12), 2**62, 0.5, 2.0, -0.0, 1e3, 1e12, 1e15, 1e-7, 2.0000001),
    *("2025-01-10T12:00:00Z", "2025-01-10T12:00:00.123456Z", "2025-01-10 12:00:00+00:00", "2025-01-10T12:00:00"),
    *("2025-01-10", "2025-02-30T12:00:00Z", "1899-12-31T23:59:59Z", "2200-01-01T00:00:01Z", "2031-01-01T00:00:00Z"),
    *("1900-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "2025-01-10T24:00:00Z", "2025-01-10T23:59:60Z", "now"),
]


def _fitting(column: Column) -> Any:
    texts = [text for text in (*column.allowed, "B 2", "DE") if re.fullmatch(column.pattern or ".*", text)]
    values = {"string": texts[0], "integer": 2, "number": 2.25, "boolean": True}
    return values.get(
        column.logical_type, "2025-01-10T12:00:00Z" if column.logical_type == "timestamp" else "2025-01-10"
    )


def _sound(contract: Contract) -> dict[str, Any]:
    return {column.name: _fitting(column) for column in contract.columns}


@st.composite
def events(draw: st.DrawFn) -> tuple[Contract, list[dict[str, Any]]]:
    """Events of one of our contracts that lack some fields and have others of any kind."""
    contract = CONTRACTS[draw(st.sampled_from(sorted(CONTRACTS)))]
    changes = st.dictionaries(st.sampled_from(contract.names), st.sampled_from(ODD) | st.text(), max_size=2)
    values = []
    for change in draw(st.lists(changes, min_size=1, max_size=30)):
        kept = [name for name in contract.names if name in change or draw(st.integers(0, 30))]
        values.append({name: (_sound(contract) | change)[name] for name in kept})
    return contract, values


def _mapping(contract: Contract) -> FeedMapping:
    return FeedMapping(identity_feed(contract, "UTC"), contract, Dataset("d", "UTC", time(6), "demo", None, ()), NOW)


def _as_a_file_would(contract: Contract, bodies: list[bytes]) -> pl.DataFrame:
    """The events read as lines of a JSON file: every field is text."""
    mapping = _mapping(contract)
    frame, _ = parse_json_lines([body.decode() for body in bodies])
    absent = [name for name in mapping.source_columns() if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, pl.String()).alias(name) for name in absent)
    return compile_row_checks(contract).judge(mapping.apply(frame))


def _as_the_door_does(contract: Contract, bodies: list[bytes]) -> pl.DataFrame:
    mapping = _mapping(contract)
    source = source_frame(
        [SourceEvent(nr, body, False, NOW) for nr, body in enumerate(bodies)], mapping, is_identity=True
    )
    return compile_row_checks(contract).judge(mapping.apply(source.frame))


def _assert_agreement(contract: Contract, values: list[dict[str, Any]]) -> int:
    """Both ways accept the same events with the same content; returns how many."""
    read = [json.dumps(value).encode() for value in values]
    bodies = [
        body for body in read if body != b"{}" and _fault(contract, body) not in ("control_character", "lone_surrogate")
    ]
    if not bodies:
        return 0
    rows = _as_a_file_would(contract, bodies)
    accepted = []
    for nr, body in enumerate(bodies):
        fault, mask = _fault(contract, body), rows[FAULT_MASK][nr]
        faults = compile_row_checks(contract).faults_of(mask) if mask else ()
        assert (fault is None and not faults) or (fault is not None and (faults or fault in STRICTER)), (
            body,
            fault,
            faults,
        )
        if fault is None:
            accepted.append(nr)
    if accepted:
        names = [*contract.names, "event_time", "event_date", "knowledge_time", "knowledge_date", FAULT_MASK]
        typed = _as_the_door_does(contract, [bodies[nr] for nr in accepted])
        assert_frame_equal(typed.select(names), rows[accepted].select(names))
    return len(accepted)


def _fault(contract: Contract, body: bytes) -> str | None:
    try:
        event_struct(contract).read(strict_object(body), NOW)
    except EventFault as fault:
        return fault.reason
    return None


@settings(max_examples=100, deadline=None)
@given(events())
def test_the_door_and_the_row_checks_agree(drawn: tuple[Contract, list[dict[str, Any]]]) -> None:
    _assert_agreement(*drawn)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=list(CONTRACTS))
def test_they_agree_on_every_odd_value_of_every_field(contract: Contract) -> None:
    sound = _sound(contract)
    for name in contract.names:
        assert _assert_agreement(contract, [sound | {name: value} for value in ODD]) > 0


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
