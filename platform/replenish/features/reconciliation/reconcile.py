"""The reconciliation of one origin: its served vectors, what came of them, and whether a release may go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.contracts.model import TIMESTAMP
from replenish.errors import NotApplicable
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import FEATURE_FOLDER
from replenish.features.reconciliation.diagnosis import Reconciled, Reconciler
from replenish.features.reconciliation.ledger_history import LedgerHistory
from replenish.features.reconciliation.recorded_sets import sets_by_id
from replenish.features.reconciliation.served_answer import ServedAnswer
from replenish.features.reconciliation.suspects import BLOCKING_CAUSES
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all

RECONCILIATION_TABLE = "monitoring/reconciliation"
"""One row per origin, set, feature, outcome and cause, with the number of values."""
DIFFERING_TABLE = "monitoring/differing_vectors"
"""One row per value of an origin that is not as served, up to `MOST_CASES` a set."""

MOST_CASES = 1_000
"""Enough to see a pattern; the counts are of all."""

RECONCILIATION_SCHEMA: dict[str, pl.DataType] = {
    "origin_date": pl.Date(),
    "feature_set": pl.String(),
    "feature": pl.String(),
    "outcome": pl.String(),
    "cause": pl.String(),
    "detail": pl.String(),
    "is_known_definition": pl.Boolean(),
    "n_values": pl.Int64(),
}
DIFFERING_SCHEMA: dict[str, pl.DataType] = {
    "origin_date": pl.Date(),
    "feature_set": pl.String(),
    "feature_set_id": pl.String(),
    "code_digest": pl.String(),
    "entity_key": pl.String(),
    "as_of": TIMESTAMP,
    "seq": pl.Int64(),
    "feature": pl.String(),
    "outcome": pl.String(),
    "served": pl.String(),
    "offline": pl.String(),
    "cause": pl.String(),
    "detail": pl.String(),
}
NO_CAUSE = "none"
"""Cause of a match."""


@dataclass(frozen=True)
class ReconciliationVerdict:
    """Whether what was served is what offline says. Counts are of values, `unknown_definitions` of vectors' values."""

    n_values: int
    n_matches: int
    by_cause: Mapping[str, int]
    unknown_definitions: int

    @property
    def n_blocking(self) -> int:
        """Values with a cause that blocks a release."""
        return sum(self.by_cause.get(cause, 0) for cause in BLOCKING_CAUSES)

    @property
    def is_releasable(self) -> bool:
        """Whether nothing is unexplained, a fault of the twin, or served by definitions that nobody recorded."""
        return self.n_blocking == 0 and self.unknown_definitions == 0


@dataclass(frozen=True)
class Reconciliation:
    """Frames of `monitoring/reconciliation` and `monitoring/differing_vectors` of one origin."""

    counts: pl.DataFrame
    cases: pl.DataFrame

    @property
    def verdict(self) -> ReconciliationVerdict:
        """What the counts say."""
        return judge_reconciliation(self.counts)


def reconcile_origin(
    answers: Iterable[ServedAnswer],
    feature_sets: Mapping[str, FeatureSet],
    history: LedgerHistory,
    origin: date,
    *,
    zone: str,
    cutoff: time,
    folder: Path = FEATURE_FOLDER,
) -> Reconciliation:
    """Compute the vectors again that were served in the day up to an origin's cut-off.

    Args:
        answers: A sample of what was served, on the days of `days_before` at least.
        feature_sets: The present definitions, by name.
        history: Ledgers at any place of the log.
        origin: Its cut-off ends the day.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        folder: Where definitions and recorded versions lie.

    Raises:
        NotApplicable: Nothing was served in that day.
    """
    served = _served_before(answers, origin, zone, cutoff)
    if not served:
        raise NotApplicable(
            "not_applicable: no vector was served and kept in the day before the cut-off", origin=origin
        )
    counts, cases = [pl.DataFrame(schema=RECONCILIATION_SCHEMA)], [pl.DataFrame(schema=DIFFERING_SCHEMA)]
    for name in sorted({vector.feature_set for vector in served}):
        of_set = [vector for vector in served if vector.feature_set == name]
        if name not in feature_sets:
            counts.append(_of_unknown_set(name, of_set, origin))
            continue
        reconciler = Reconciler(feature_sets[name], sets_by_id(name, folder), history, zone, cutoff)
        done = reconciler.reconcile(of_set)
        counts.append(_counts(name, done, origin))
        cases.append(_cases(name, of_set, done, origin))
    return Reconciliation(pl.concat(counts), pl.concat(cases))


def write_reconciliation(
    lake: DeltaLake, found: Reconciliation, origin: date, audit: Audit = accept_all
) -> TableCommit:
    """Keep what was found in place of what an earlier run found; gives the table of counts.

    Raises:
        AuditFailed: From `audit`; nothing was written.
    """
    audit(found.counts)
    lake.replace_partitions(DIFFERING_TABLE, found.cases, column="origin_date", values=[origin])
    return lake.replace_partitions(RECONCILIATION_TABLE, found.counts, column="origin_date", values=[origin])


def judge_reconciliation(counts: pl.DataFrame) -> ReconciliationVerdict:
    """The verdict on rows of `RECONCILIATION_SCHEMA`."""
    by_cause = dict(counts.group_by("cause").agg(pl.col("n_values").sum()).sort("cause").iter_rows())
    matches = by_cause.pop(NO_CAUSE, 0)
    unknown = counts.filter(~pl.col("is_known_definition"))["n_values"].sum()
    return ReconciliationVerdict(int(counts["n_values"].sum()), matches, by_cause, int(unknown))


def days_before(origin: date, zone: str, cutoff: time) -> tuple[date, date]:
    """First and last date (UTC) of the day that ends with an origin's cut-off.

    >>> days_before(date(2025, 2, 4), "Asia/Tokyo", time(6))
    (datetime.date(2025, 2, 2), datetime.date(2025, 2, 3))
    """
    first, last = _bounds(origin, zone, cutoff)
    return first.astimezone(UTC).date(), last.astimezone(UTC).date()


def _bounds(origin: date, zone: str, cutoff: time) -> tuple[datetime, datetime]:
    return origin_instant(origin - timedelta(days=1), zone, cutoff), origin_instant(origin, zone, cutoff)


def _served_before(answers: Iterable[ServedAnswer], origin: date, zone: str, cutoff: time) -> list[ServedAnswer]:
    """Those of the day up to the origin's cut-off; answers that were given twice count twice."""
    first, last = _bounds(origin, zone, cutoff)
    of_day = [answer for answer in answers if first < answer.served_at <= last]
    return sorted(of_day, key=lambda answer: (answer.feature_set, answer.seq, answer.as_of, str(answer.key)))


def _counts(name: str, done: Reconciled, origin: date) -> pl.DataFrame:
    rows = []
    for value in done.values:
        finding = done.findings[value.place]
        is_match = value.outcome == "match"
        cause, detail = (NO_CAUSE, "") if is_match else (finding.cause, finding.detail)
        rows.append((origin, name, value.feature, value.outcome, cause, detail, finding.is_known_definition, 1))
    frame = pl.DataFrame(rows, schema=RECONCILIATION_SCHEMA, orient="row")
    keys = [column for column in RECONCILIATION_SCHEMA if column != "n_values"]
    return frame.group_by(keys).agg(pl.col("n_values").sum()).sort(keys)


def _cases(name: str, served: list[ServedAnswer], done: Reconciled, origin: date) -> pl.DataFrame:
    differing = [value for value in done.values if value.outcome != "match"][:MOST_CASES]
    rows = []
    for value in differing:
        vector, finding = served[value.place], done.findings[value.place]
        ids = (name, vector.feature_set_id, vector.code_digest, json.dumps(list(vector.key), ensure_ascii=False))
        both = (json.dumps(value.served), json.dumps(value.offline))
        where = (vector.as_of, vector.seq, value.feature, value.outcome)
        rows.append((origin, *ids, *where, *both, finding.cause, finding.detail))
    return pl.DataFrame(rows, schema=DIFFERING_SCHEMA, orient="row")


def _of_unknown_set(name: str, served: list[ServedAnswer], origin: date) -> pl.DataFrame:
    """Vectors of a set that has no definitions: every value of them is one too many."""
    n_values = sum(len(vector.values) for vector in served)
    row = (origin, name, "", "extra", "unexplained", "no such feature set", False, n_values)
    return pl.DataFrame([row], schema=RECONCILIATION_SCHEMA, orient="row")
