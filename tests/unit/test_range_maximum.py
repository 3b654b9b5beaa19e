"""Range maxima against a loop over all ranges."""

import numpy as np
import pytest

from replenish.range_maximum import NO_VALUE, range_maximum


@pytest.mark.parametrize("seed", range(40))
def test_a_range_maximum_is_what_a_loop_over_all_ranges_gives(seed: int) -> None:
    chance = np.random.default_rng(seed)
    n_queries, n_ranges = int(chance.integers(1, 70)), int(chance.integers(0, 60))
    first = chance.integers(0, n_queries + 1, n_ranges)
    stop = chance.integers(0, n_queries + 1, n_ranges)
    value = chance.integers(-50, 50, n_ranges)
    expected = [
        max((int(v) for f, s, v in zip(first, stop, value, strict=True) if f <= query < s), default=NO_VALUE)
        for query in range(n_queries)
    ]
    assert range_maximum(n_queries, first, stop, value).tolist() == expected


def test_no_queries_have_no_maxima() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert range_maximum(0, none, none, none).tolist() == []
