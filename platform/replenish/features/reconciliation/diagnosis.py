"""Served vectors held against the offline evaluator, each difference with the cause that was found for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time

import polars as pl

from replenish.contracts.model import TIMESTAMP
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.evaluator import evaluate
from replenish.features.online.postings import Plain
from replenish.features.reconciliation.compare import ComparedValue, compare_vector, is_served_value, plain_value
from replenish.features.reconciliation.ledger_history import LedgerHistory, ledgers_of
from replenish.features.reconciliation.served_answer import ServedAnswer
from replenish.features.reconciliation.suspects import (
    Cause,
    Ledgers,
    Reading,
    Suspect,
    freshness_suspects,
    preprocessing_suspects,
)

EARLIER_PLACES = 8
"""Places of the log before the served one at which a key's state may have stood still."""
MOST_SEARCHED = 50
"""Vectors of a set that are searched to the end in vain; beyond them a difference is unexplained without a search."""

Vector = Mapping[str, Plain]

_LATE: tuple[Cause, str] = ("late_data", "known to the log only behind the served place")


@dataclass(frozen=True)
class VectorFinding:
    """The cause of a vector's differences; `cause` None where there are none."""

    place: int
    cause: Cause | None
    detail: str
    is_known_definition: bool
    """Whether the served set id is that of the present definitions or of a recorded version."""


@dataclass(frozen=True)
class Reconciled:
    """What came of the vectors of one set: a value a feature, a finding a vector."""

    values: tuple[ComparedValue, ...]
    findings: tuple[VectorFinding, ...]


class Reconciler:
    """Computes vectors of one feature set again, and looks for the cause where they are others.

    Args:
        feature_set: The present definitions.
        recorded: Other versions that were given out, by their id.
        history: Ledgers at any place of the log.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
    """

    def __init__(
        self,
        feature_set: FeatureSet,
        recorded: Mapping[str, FeatureSet],
        history: LedgerHistory,
        zone: str,
        cutoff: time,
    ) -> None:
        self._feature_set, self._history = feature_set, history
        self._recorded = {
            set_id: each for set_id, each in recorded.items() if set_id != feature_set_digest(feature_set)
        }
        self._known_ids = {feature_set_digest(feature_set), *recorded}
        self._zone, self._cutoff = zone, cutoff
        self._first_suspects: list[tuple[Cause, str]] = []
        """Causes found before, newest first: what was wrong with one vector is likely wrong with the next."""
        self._n_in_vain = 0

    def reconcile(self, served: Sequence[ServedAnswer]) -> Reconciled:
        """Compare vectors of the set with the offline values of the whole log, and explain those that differ."""
        ledgers = ledgers_of(self._feature_set, self._history, self._keys(served), None)
        offline = self._computed(self._feature_set, served, ledgers)
        compared = [list(compare_vector(nr, vector, offline[nr])) for nr, vector in enumerate(served)]
        wrong = [nr for nr, values in enumerate(compared) if any(value.outcome != "match" for value in values)]
        causes: dict[int, tuple[Cause, str]] = dict.fromkeys(self._late(served, wrong), _LATE)
        causes |= {nr: self._cause(served[nr]) for nr in wrong if nr not in causes}
        findings = []
        for nr, vector in enumerate(served):
            found = causes.get(nr)
            cause, detail = found or (None, "")
            findings.append(VectorFinding(nr, cause, detail, vector.feature_set_id in self._known_ids))
        return Reconciled(tuple(value for values in compared for value in values), tuple(findings))

    def _late(self, served: Sequence[ServedAnswer], wrong: Sequence[int]) -> Iterator[int]:
        """Those of some vectors that were right for the log up to their place; all of one place at once."""
        by_place: dict[int, list[int]] = {}
        for nr in wrong:
            by_place.setdefault(served[nr].seq, []).append(nr)
        for seq, numbers in by_place.items():
            vectors = [served[nr] for nr in numbers]
            ledgers = ledgers_of(self._feature_set, self._history, self._keys(vectors), seq)
            computed = self._computed(self._feature_set, vectors, ledgers)
            yield from (nr for nr, values in zip(numbers, computed, strict=True) if _is_all(served[nr], values))

    def _cause(self, served: ServedAnswer) -> tuple[Cause, str]:
        """The first suspect whose vector is the served one, in every value."""
        likely = []
        for suspect in self._suspects(served):
            if (suspect.cause, suspect.detail) in self._first_suspects or suspect.cause == "code":
                if self._fits(suspect, served):
                    return suspect.cause, suspect.detail
            else:
                likely.append(suspect)
        if self._n_in_vain >= MOST_SEARCHED:
            return "unexplained", "not searched: too many before it"
        for suspect in likely:
            if self._fits(suspect, served):
                self._first_suspects.append((suspect.cause, suspect.detail))
                return suspect.cause, suspect.detail
        self._n_in_vain += 1
        return "unexplained", f"by code {served.code_digest[:12]}, definitions {served.feature_set_id[:12]}"

    def _fits(self, suspect: Suspect, served: ServedAnswer) -> bool:
        reading = suspect.make()
        (found,) = self._read(reading, [(served.key, reading.as_of)])
        return _is_all(served, found)

    def _suspects(self, served: ServedAnswer) -> Iterator[Suspect]:
        keys = self._keys([served])
        then = self._reading(self._feature_set, keys, served.seq, served.as_of)
        older = self._recorded.get(served.feature_set_id)
        if older is not None:
            by_older = self._reading(older, keys, served.seq, served.as_of)
            yield Suspect("code", f"definitions {older.version}", lambda: by_older)
        yield from freshness_suspects(then)
        for seq in self._earlier_places(keys, served.seq):
            make = self._at_place(keys, seq, served.as_of)
            yield Suspect("freshness", f"stands at place {seq} of the log", make)
        yield from preprocessing_suspects(then, self._raw(keys, served.seq))

    def _at_place(self, keys: pl.DataFrame, seq: int, as_of: datetime):  # type: ignore[no-untyped-def]
        return lambda: self._reading(self._feature_set, keys, seq, as_of)

    def _earlier_places(self, keys: pl.DataFrame, seq: int) -> list[int]:
        """Places just before those that say something of the key."""
        streams = {source.stream for source in self._feature_set.sources}
        places = {place - 1 for stream in streams for place in self._history.seqs_of(stream, keys, seq)}
        return sorted(places, reverse=True)[:EARLIER_PLACES]

    def _reading(self, feature_set: FeatureSet, keys: pl.DataFrame, seq: int | None, as_of: datetime) -> Reading:
        ledgers = ledgers_of(feature_set, self._history, keys, seq)
        return Reading(feature_set, ledgers, as_of, self._zone, self._cutoff)

    def _raw(self, keys: pl.DataFrame, seq: int) -> Ledgers:
        sources = self._feature_set.sources
        return {source.name: self._history.silver_through(source.stream, keys, seq) for source in sources}

    def _keys(self, served: Sequence[ServedAnswer]) -> pl.DataFrame:
        columns = [pl.Series(name, [v.key[nr] for v in served]) for nr, name in enumerate(self._feature_set.entity)]
        return pl.DataFrame(columns).unique(maintain_order=True)

    def _computed(self, feature_set: FeatureSet, served: Sequence[ServedAnswer], ledgers: Ledgers) -> list[Vector]:
        reading = Reading(feature_set, ledgers, served[0].as_of, self._zone, self._cutoff)
        return self._read(reading, [(vector.key, vector.as_of) for vector in served])

    def _read(self, reading: Reading, asked: Sequence[tuple[tuple[Plain, ...], datetime]]) -> list[Vector]:
        """The vectors of a reading for (key, instant) pairs.

        A daily set is computed by the formulas of any instant, which are the same: a vector that claims an instant
        which is no cut-off is compared all the same.
        """
        any_instant = replace(reading.feature_set, clock="instant").on_postings()
        entity = reading.feature_set.entity
        columns = [pl.Series(name, [key[nr] for key, _ in asked]) for nr, name in enumerate(entity)]
        spine = pl.DataFrame([*columns, pl.Series("as_of", [as_of for _, as_of in asked], dtype=TIMESTAMP)])
        found = evaluate(any_instant, spine, reading.ledgers, reading.zone, reading.cutoff)
        names = reading.feature_set.feature_names
        return [dict(zip(names, map(plain_value, row), strict=True)) for row in found.select(names).iter_rows()]


def _is_all(served: ServedAnswer, values: Vector) -> bool:
    """Whether values are the served ones, every one of them."""
    same_names = set(values) == set(served.values)
    return same_names and all(is_served_value(served.values[name], value) for name, value in values.items())
