"""Row checks: the right rule, the right bit, nothing else."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.contracts.model import Column, Contract, ServiceLevel
from replenish.contracts.reader import read_contracts
from replenish.contracts.validate import (
    FAULT_MASK,
    MAX_RULES,
    UNCASTABLE_SUFFIX,
    RowFault,
    compile_row_checks,
)
from replenish.errors import BrokenPromise, ContractError

NOW = datetime(2025, 1, 1, tzinfo=UTC)
CONTRACT = Contract(
    stream="things",
    version="1.0.0",
    description="One of every type and rule.",
    owner="o",
    escalation="e",
    runbook="r",
    columns=(
        Column("thing_id", "string", "", is_required=True, pattern="[A-Z][0-9]+"),
        Column("at", "timestamp", "", is_required=True),
        Column("units", "integer", "", is_required=True, minimum=0, maximum=1000),
        Column("share", "number", "", minimum=0.0, maximum=1.0),
        Column("kind", "string", "", allowed=("a", "b")),
        Column("is_open", "boolean", ""),
        Column("due", "date", ""),
    ),
    fact_key=("thing_id", "at"),
    event_time="at",
    is_reference=False,
    max_dead_share=0.1,
    sla=ServiceLevel(1, 2, "gold"),
    retention_days=1,
)
CHECKS = compile_row_checks(CONTRACT)
SOUND = {"thing_id": "A1", "at": NOW, "units": 5, "share": 0.5, "kind": "a", "is_open": True, "due": NOW.date()}
BREACH = {
    ("missing_required", "thing_id"): None, ("pattern_mismatch", "thing_id"): "A1 ", ("missing_required", "at"): None,
    ("missing_required", "units"): None, ("below_minimum", "units"): -1, ("above_maximum", "units"): 1001,
    ("not_finite", "share"): float("nan"), ("below_minimum", "share"): -0.1, ("above_maximum", "share"): 1.1,
    ("not_allowed", "kind"): "c", ("control_character", "thing_id"): "A1\x00",
}  # fmt: skip


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    flags = {c.name + UNCASTABLE_SUFFIX: pl.Boolean() for c in CONTRACT.columns}
    schema = {c.name: c.dtype for c in CONTRACT.columns} | flags
    return pl.DataFrame([dict.fromkeys(flags, False) | row for row in rows], schema=schema)


def _broken_row(fault: RowFault) -> dict[str, object]:
    """A row that breaks this one rule."""
    if (fault.reason, fault.field) in BREACH:
        return SOUND | {fault.field: BREACH[fault.reason, fault.field]}
    return SOUND | {fault.field: None, fault.field + UNCASTABLE_SUFFIX: True}


def test_every_reason_code_occurs_in_the_example_contract() -> None:
    assert {fault.reason for fault in CHECKS.faults} == {
        "not_text", "missing_required", "pattern_mismatch", "bad_time", "not_a_number", "below_minimum",
        "above_maximum", "not_finite", "not_allowed", "not_a_flag", "control_character",
    }  # fmt: skip
    assert [fault.bit for fault in CHECKS.faults] == list(range(len(CHECKS.faults)))


@pytest.mark.parametrize("fault", CHECKS.faults, ids=lambda fault: f"{fault.field}-{fault.reason}")
def test_a_row_that_breaks_one_rule_gets_that_bit_and_no_other(fault: RowFault) -> None:
    mask = CHECKS.judge(_frame([_broken_row(fault)]))[FAULT_MASK][0]
    assert mask == 1 << fault.bit
    assert CHECKS.first_fault(mask) == fault


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([None, *CHECKS.faults]), max_size=30))
def test_many_rows_are_judged_as_each_row_is_alone(choice: list[RowFault | None]) -> None:
    rows = [SOUND if fault is None else _broken_row(fault) for fault in choice]
    judged = CHECKS.judge(_frame(rows))
    alone = [0 if fault is None else 1 << fault.bit for fault in choice]
    assert judged[FAULT_MASK].to_list() == alone
    assert judged[FAULT_MASK].dtype == pl.Int64()
    assert judged.drop(FAULT_MASK).equals(_frame(rows))
    for fault in CHECKS.faults:
        assert CHECKS.count(judged).get(fault, 0) == sum(mask >> fault.bit & 1 for mask in alone)


def test_a_row_that_breaks_several_rules_has_all_their_bits_in_column_order() -> None:
    row = SOUND | {"thing_id": None, "units": -3, "kind": "z"}
    mask = CHECKS.judge(_frame([row]))[FAULT_MASK][0]
    assert [(f.reason, f.field) for f in CHECKS.faults_of(mask)] == [
        ("missing_required", "thing_id"), ("below_minimum", "units"), ("not_allowed", "kind"),
    ]  # fmt: skip


def test_an_unreadable_value_is_not_also_called_missing() -> None:
    mask = CHECKS.judge(_frame([SOUND | {"units": None, "units__uncastable": True}]))[FAULT_MASK][0]
    assert [f.reason for f in CHECKS.faults_of(mask)] == ["not_a_number"]


@pytest.mark.parametrize("row", [{"units": 0, "share": 0.0}, {"units": 1000, "share": 1.0}], ids=["least", "greatest"])
def test_bounds_are_inclusive(row: dict[str, object]) -> None:
    assert CHECKS.judge(_frame([SOUND | row]))[FAULT_MASK].to_list() == [0]


@pytest.mark.parametrize("text", ["A1x", "xA1", "A1\n", "\nA1", ""])
def test_a_pattern_must_match_the_whole_text(text: str) -> None:
    assert CHECKS.judge(_frame([SOUND | {"thing_id": text}]))[FAULT_MASK][0] != 0


def test_nulls_in_optional_columns_break_nothing() -> None:
    row = SOUND | dict.fromkeys(("share", "kind", "is_open", "due"))
    assert CHECKS.judge(_frame([row]))[FAULT_MASK].to_list() == [0]


def test_flags_for_unreadable_values_may_be_left_out_and_other_columns_are_kept() -> None:
    frame = _frame([SOUND, SOUND | {"units": -1}]).drop([c.name + UNCASTABLE_SUFFIX for c in CONTRACT.columns])
    judged = CHECKS.judge(frame.with_columns(row_nr=pl.Series([7, 8])))
    assert judged.columns == [*frame.columns, "row_nr", FAULT_MASK]
    assert [mask > 0 for mask in judged[FAULT_MASK]] == [False, True]


def test_an_empty_frame_is_sound() -> None:
    assert CHECKS.judge(_frame([]))[FAULT_MASK].to_list() == []


@pytest.mark.parametrize("mask", [0, -1, 1 << len(CHECKS.faults)])
def test_a_mask_that_no_row_can_have_is_a_broken_promise(mask: int) -> None:
    with pytest.raises(BrokenPromise):
        CHECKS.first_fault(mask)


def test_the_rules_of_every_contract_fit_a_mask() -> None:
    for contract in read_contracts().values():
        assert len(compile_row_checks(contract).faults) <= MAX_RULES


def test_more_rules_than_bits_are_refused() -> None:
    columns = tuple(Column(f"c{i}", "string", "") for i in range(MAX_RULES + 1))
    with pytest.raises(ContractError, match="at most 62"):
        compile_row_checks(replace(CONTRACT, columns=columns))
