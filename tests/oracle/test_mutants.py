"""Each seeded fault of an evaluator is seen by the comparison, within the histories that `make test` draws."""

from __future__ import annotations

import pytest

from tests.oracle.compare import TEST_SEEDS, batch_of, first_mismatch
from tests.oracle.mutants import all_mutants
from tests.oracle.range_join import RangeJoin


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda m: m.__name__)
def test_the_comparison_sees(mutant: type[RangeJoin]) -> None:
    found = next((m for m in (first_mismatch(mutant.answer, batch_of(seed)) for seed in TEST_SEEDS) if m), None)
    assert found is not None, f"{mutant.__doc__} Not seen in {len(TEST_SEEDS)} batches."
    # A cancellation keeps all that was said of its fact.
    assert len(found.history.statements) <= (12 if found.history.cancellations else 6), f"not cut down: {found}"
