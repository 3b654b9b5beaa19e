"""The greatest value of all ranges that contain a query: what a monotonic queue cannot do under corrections.

Every version of a fact lives from one instant to another, which on a sorted spine is a range of queries. A range is the
union of two blocks of equal power-of-two length. All blocks of one length are entered at their first query, and from
the longest length down each block hands its value to its two halves. Exact for any overlap, in O((n + q) log q).
"""

from __future__ import annotations

import numpy as np

from replenish.bitemporal_windows import IntArray

NO_VALUE = int(np.iinfo(np.int64).min)
"""Stands for "no range covers this query" in arrays of maxima."""


def range_maximum(n_queries: int, first: IntArray, stop: IntArray, value: IntArray) -> IntArray:
    """The greatest `value` of the ranges `[first, stop)` over each query.

    Args:
        n_queries: Number of queries.
        first: First query of each range; ranges may be empty, overlap and repeat, in any order.
        stop: The query after its last, at most `n_queries`.
        value: Its value, greater than `NO_VALUE`.

    Returns:
        Shape (n_queries,); `NO_VALUE` where no range lies.

    >>> range_maximum(4, np.array([0, 1]), np.array([3, 2]), np.array([5, 7])).tolist()[:3]
    [5, 7, 5]
    """
    best = np.full(n_queries, NO_VALUE, dtype=np.int64)
    rows = np.flatnonzero(first < stop)
    if not len(rows):
        return best
    first, stop, value = first[rows], stop[rows], value[rows]
    # frexp is exact below 2**53: the exponent of n is floor(log2 n) + 1.
    level = (np.frexp((stop - first).astype(np.float64))[1] - 1).astype(np.int8)
    by_level = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[by_level], np.arange(int(level.max()) + 2))
    for power in range(int(level.max()), -1, -1):
        chosen = by_level[bounds[power] : bounds[power + 1]]
        np.maximum.at(best, first[chosen], value[chosen])
        if power:
            np.maximum.at(best, stop[chosen] - (1 << power), value[chosen])
            half = 1 << (power - 1)
            best[half:] = np.maximum(best[half:], best[:-half])
    return best
