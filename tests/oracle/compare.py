"""Holds an evaluator against the oracle over many random histories, and cuts a failure down to its smallest form.

Histories go to the evaluator in batches that share zone, cut-off and features: one ledger with many entities, as in
use. The oracle sees one history at a time. Integers, texts, flags and nulls must be equal and of the same type; ratios,
means and deviations may differ by 1e-12 of the value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

from tests.oracle.frames import ENTITY, fact_key, ledger_frame, ledger_rows, spine_frame
from tests.oracle.histories import (
    History,
    Seeded,
    Setting,
    Statement,
    draw_features,
    draw_history,
    draw_setting,
    ledger_of,
)
from tests.oracle.known_at import Feature, Known, known_values
from tests.oracle.range_join import Evaluator, Question, features_named

T = TypeVar("T")
RELATIVE_TOLERANCE = 1e-12
HISTORIES_PER_BATCH = 20
TEST_SEEDS = range(36)
"""The draw of `make test`: 720 histories. Every mutant has to be seen in it."""


@dataclass(frozen=True)
class Batch:
    """Histories that are asked about together; `expected` holds the oracle's answer per history and spine row."""

    seed: int
    setting: Setting
    features: tuple[Feature, ...]
    histories: tuple[History, ...]
    expected: tuple[tuple[dict[str, Known], ...], ...]

    @property
    def n_values(self) -> int:
        return sum(len(rows) for rows in self.expected) * len(self.features)


@dataclass(frozen=True)
class Mismatch:
    """One value on which an evaluator and the oracle differ, with the smallest history that shows it."""

    seed: int
    setting: Setting
    features: tuple[Feature, ...]
    history: History
    feature: str
    row: int
    expected: object
    actual: object

    def __str__(self) -> str:
        named = next(f for f in self.features if f.name == self.feature)
        said = "\n".join(f"  {line}" for line in [*map(_told, self.history.statements), *self.history.cancellations])
        entity, as_of = self.history.spine[self.row]
        needed = "".join(f"\n  of {f}" for f in self.features if f is not named)
        return (
            f"seed {self.seed}: {self.feature} is {self.actual!r}, the oracle says {self.expected!r}\n"
            f"  {named}{needed}\n  {self.setting}\n  spine {entity} as of {as_of.isoformat()}\nstatements\n{said}"
        )


@dataclass
class Comparison:
    """How a run went; `kinds` counts values by aggregation and parameters."""

    n_histories: int = 0
    n_values: int = 0
    n_wrong: int = 0
    kinds: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    mismatch: Mismatch | None = None

    def add(self, batch: Batch, wrong: Sequence[tuple[int, int, str, object, object]]) -> None:
        self.n_histories += len(batch.histories)
        self.n_values += batch.n_values
        self.n_wrong += len(wrong)
        n_rows = sum(len(rows) for rows in batch.expected)
        for f in batch.features:
            per = (f.window_days, f.offset_days, f.lag_days, f.denominator, f.time_to_live_days, f.where is not None)
            self.kinds[(f.aggregation, *per)] += n_rows

    def merge(self, other: Comparison) -> None:
        """Take in what another run found; the first mismatch stays."""
        self.n_histories += other.n_histories
        self.n_values += other.n_values
        self.n_wrong += other.n_wrong
        self.kinds.update(other.kinds)
        self.mismatch = self.mismatch or other.mismatch

    def by_aggregation(self) -> dict[str, int]:
        """Values compared per aggregation."""
        found: Counter[str] = Counter()
        for kind, n in self.kinds.items():
            found[kind[0]] += n
        return dict(found)


def _told(said: Statement) -> str:
    what = "retracted" if said.is_retraction else f"{said.values} at {said.event_time.isoformat()} ({said.event_date})"
    return f"known {said.knowledge_time.isoformat()} nr {said.arrival} {said.key} fact {said.fact}: {what}"


@lru_cache(maxsize=len(TEST_SEEDS))
def batch_of(seed: int, n_histories: int = HISTORIES_PER_BATCH) -> Batch:
    """The batch of a seed, with the oracle's answers."""
    chooser = Seeded(seed)
    setting, features = draw_setting(chooser), draw_features(chooser)
    histories = tuple(draw_history(chooser, setting, number) for number in range(n_histories))
    return judged(seed, setting, features, histories)


def judged(seed: int, setting: Setting, features: Sequence[Feature], histories: Sequence[History]) -> Batch:
    """A batch with the oracle's answers."""
    expected = []
    for history in histories:
        postings = ledger_of(history)
        rows = [
            known_values(
                features, postings, key[: setting.n_entity], as_of, setting.zone, setting.cutoff, setting.kinds
            )
            for key, as_of in history.spine
        ]
        expected.append(tuple(rows))
    return Batch(seed, setting, tuple(features), tuple(histories), tuple(expected))


def question_of(batch: Batch) -> Question:
    """What an evaluator is asked; postings stand in an order that has nothing to do with time."""
    rows = [row for history in batch.histories for row in ledger_rows(history, batch.setting)]
    ledger = ledger_frame(rows[1::2] + rows[0::2])
    spine = spine_frame([row for history in batch.histories for row in history.spine])
    setting = batch.setting
    entity = ENTITY[: setting.n_entity]
    spine, clocks = spine.select(*entity, "as_of"), (setting.zone, setting.cutoff)
    return Question(batch.features, spine, ledger, entity, fact_key(setting), *clocks, setting.kinds)


def is_same(actual: object, expected: Known) -> bool:
    """Equality; of floats to within 1e-12 of the value."""
    if isinstance(actual, float) and isinstance(expected, float):
        return math.isclose(actual, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return type(actual) is type(expected) and actual == expected


def wrong_values(evaluator: Evaluator, batch: Batch) -> Iterator[tuple[int, int, str, object, object]]:
    """(history, spine row, feature, expected, actual) of every difference."""
    question = question_of(batch)
    answer = evaluator(question)
    assert answer.select(question.spine.columns).equals(question.spine), "the evaluator changed the spine"
    rows = answer.iter_rows(named=True)
    for number, expected_rows in enumerate(batch.expected):
        for nr, expected in enumerate(expected_rows):
            actual = next(rows)
            for name, value in expected.items():
                if not is_same(actual[name], value):
                    yield number, nr, name, value, actual[name]


def first_mismatch(evaluator: Evaluator, batch: Batch) -> Mismatch | None:
    """The smallest form of the first difference of a batch, or None."""
    wrong = next(wrong_values(evaluator, batch), None)
    return None if wrong is None else _smallest(evaluator, batch, wrong)


def compare(evaluator: Evaluator, batches: Iterator[Batch] | Sequence[Batch]) -> Comparison:
    """Hold an evaluator against batches; the first mismatch is cut down and kept."""
    done = Comparison()
    for batch in batches:
        wrong = list(wrong_values(evaluator, batch))
        done.add(batch, wrong)
        if wrong and done.mismatch is None:
            done.mismatch = _smallest(evaluator, batch, wrong[0])
    return done


def _smallest(evaluator: Evaluator, batch: Batch, wrong: tuple[int, int, str, object, object]) -> Mismatch:
    """Leave out features, other histories, spine rows and statements while anything still differs."""
    number, nr, name, expected, actual = wrong
    features = features_named(batch.features, [name])
    history = batch.histories[number]

    def judge(smaller: Sequence[History]) -> tuple[int, int, str, object, object] | None:
        try:
            return next(wrong_values(evaluator, judged(batch.seed, batch.setting, features, smaller)), None)
        except Exception:  # A smaller case that fails otherwise is another case.
            return None

    alone = replace(history, spine=history.spine[nr : nr + 1])
    for candidate in (alone, history):
        found = judge([candidate])
        if found is not None:
            least = _fewest(candidate, lambda h: judge([h]) is not None)
            _, nr, name, expected, actual = judge([least]) or found
            return Mismatch(batch.seed, batch.setting, features, least, name, nr, expected, actual)
    return Mismatch(batch.seed, batch.setting, features, history, name, nr, expected, actual)


def _fewest(history: History, is_wrong: Callable[[History], bool]) -> History:
    """Drop one cancellation and one statement after the other as long as the history stays wrong without it."""
    position = 0
    while position < len(history.cancellations):
        fewer = replace(history, cancellations=_without(history.cancellations, position))
        if is_wrong(fewer):
            history = fewer
        else:
            position += 1
    position = 0
    while position < len(history.statements):
        # No cancellation without its sale: such a ledger cannot be.
        fact = history.statements[position].fact
        lasting = tuple(c for c in history.cancellations if c.kind == "return" or c.fact != fact)
        fewer = replace(history, statements=_without(history.statements, position), cancellations=lasting)
        if is_wrong(fewer):
            history = fewer
        else:
            position += 1
    return history


def _without(items: tuple[T, ...], position: int) -> tuple[T, ...]:
    return items[:position] + items[position + 1 :]
