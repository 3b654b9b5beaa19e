"""The gate every table passes before its commit: pandera finds the faults, Dagster shows them, nothing is written.

A check that runs after the write comes too late: the materialization is on record and counts as fresh. So the check is
the `audit` callback of the writing function; where it fails, the run reports a failed check, and nothing is written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from replenish.errors import AuditFailed, NotApplicable, TableMissing

SCHEMA_CHECK = "schema_holds"
ROWS_CHECK = "has_rows"
N_CASES_SHOWN = 20
"""Failure cases shown in the UI: enough to see the pattern, few enough to load."""

Audit = Callable[[pl.DataFrame], None]
SchemaSource = Callable[[], Any]

WITHOUT_INPUTS = (NotApplicable, TableMissing)
"""What a stage raises where this data set has nothing for it: a declared limit, or the table of a stage before it that
had nothing to do either (one that failed stops its children by itself)."""


@dataclass(frozen=True)
class StageResult:
    """What a shell reports of one committed table: `version` becomes the data version, `n_rows` the row count."""

    n_rows: int
    version: int | str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def gate_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The two checks of every table: its schema (blocking, before the commit) and that it holds rows (a warning)."""
    return [
        dg.AssetCheckSpec(
            SCHEMA_CHECK,
            asset=asset,
            blocking=True,
            description="pandera schema of the rows to be committed; where it fails nothing is written.",
        ),
        dg.AssetCheckSpec(ROWS_CHECK, asset=asset, description="The table holds rows; an empty one is worth a look."),
    ]


class SchemaGate:
    """Judges frames by a pandera schema and keeps what it found for the check result."""

    def __init__(self, asset: str, schema: SchemaSource) -> None:
        self._asset = asset
        self._schema = schema
        self._n_rows = 0
        self._failures: pl.DataFrame | None = None

    def audit(self, frame: pl.DataFrame) -> None:
        """Pass frames that hold; raise AuditFailed for the first that does not."""
        # Imported here: definitions load without pandera's three seconds.
        from pandera.errors import SchemaErrors

        self._n_rows += frame.height
        try:
            self._schema().validate(frame, lazy=True)
        except SchemaErrors as found:
            self._failures = pl.DataFrame(found.failure_cases)
            raise AuditFailed("rows break their schema", asset=self._asset, n=self._failures.height) from found

    def result(self) -> dg.AssetCheckResult:
        """The check result after the work; failed when a frame was refused."""
        if self._failures is None:
            return self._check(True, {"rows_checked": self._n_rows})
        cases = self._failures.head(N_CASES_SHOWN)
        return self._check(False, {"n_failure_cases": self._failures.height, "failure_cases": as_markdown(cases)})

    def not_applicable(self, reason: str) -> dg.AssetCheckResult:
        """Passed, with the reason why there was nothing to judge."""
        return self._check(True, {"not_applicable": reason})

    def _check(self, passed: bool, metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=passed, check_name=SCHEMA_CHECK, asset_key=self._asset, metadata=dict(metadata)
        )


def run_gated(asset: str, schema: SchemaSource, work: Callable[[Audit], StageResult]) -> Iterator[Any]:
    """Run `work` behind the gate and yield what Dagster has to know.

    A stage without its inputs materialises with `not_applicable` and its reason; a refused frame yields the failed
    check and fails the step, so that children do not run.
    """
    gate = SchemaGate(asset, schema)
    try:
        outcome = work(gate.audit)
    except WITHOUT_INPUTS as missing:
        yield not_applicable(asset, str(missing), [gate.not_applicable(str(missing)), _rows(asset, None)])
    except AuditFailed as refused:
        yield gate.result()
        raise dg.Failure(f"{asset}: {refused}; nothing was committed", allow_retries=False) from refused
    else:
        yield dg.MaterializeResult(
            asset_key=asset,
            metadata={"dagster/row_count": outcome.n_rows, "delta_version": outcome.version, **outcome.metadata},
            data_version=dg.DataVersion(str(outcome.version)),
            check_results=[gate.result(), _rows(asset, outcome.n_rows)],
        )


def not_applicable(asset: str, reason: str, checks: list[dg.AssetCheckResult] | None = None) -> dg.MaterializeResult:
    """The report of a stage this data set has no inputs for; no alarm."""
    return dg.MaterializeResult(
        asset_key=asset,
        metadata={"not_applicable": f"not_applicable: {reason.removeprefix('not_applicable: ')}"},
        check_results=checks or [],
    )


def as_markdown(frame: pl.DataFrame) -> dg.MetadataValue:
    """A small frame as a markdown table; bars in cells are escaped, nulls are empty."""
    if not frame.width:
        return dg.MetadataValue.md("")
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * frame.width]
    for row in frame.iter_rows():
        cells = ("" if cell is None else str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def _rows(asset: str, n_rows: int | None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=n_rows is None or n_rows > 0,
        severity=dg.AssetCheckSeverity.WARN,
        check_name=ROWS_CHECK,
        asset_key=asset,
        metadata={"rows": n_rows} if n_rows is not None else {"not_applicable": "no table"},
    )
