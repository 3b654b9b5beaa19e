"""Population stability index: how far a sample has moved from a reference, bin by bin.

Edges come from the reference and are stored, so that every later sample is counted in the same bins; counts are
integers, so the index does not depend on row order or thread count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replenish.errors import OutOfRange

N_BINS = 10
PSEUDO_COUNT = 0.5
"""Added to every bin, so that an empty one weighs what half a row would and not infinity."""

PSI_THRESHOLD = 0.25
"""The customary border of a significant shift; below 0.1 nothing is said to have moved (Siddiqi 2006)."""


@dataclass(frozen=True)
class ReferenceBins:
    """Inner edges (ascending, distinct) and counts of a reference; a bin holds edge[i-1] < x <= edge[i], NaN the last.

    `counts` has one entry more than there are bins between edges, for the missing values.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def count_in_bins(values: NDArray[np.floating], edges: tuple[float, ...]) -> NDArray[np.int64]:
    """Rows per bin, shape (len(edges) + 2,); the last entry counts NaN."""
    is_missing = np.isnan(values)
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), values[~is_missing], side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    return np.append(counts, np.count_nonzero(is_missing)).astype(np.int64)


def reference_bins(values: NDArray[np.floating], n_bins: int = N_BINS) -> ReferenceBins:
    """Bins of about equal count from a reference; values that many rows share take one bin together.

    Raises:
        OutOfRange: No rows, or fewer than two bins.
    """
    if values.size == 0 or n_bins < 2:
        raise OutOfRange("a reference needs rows and two bins", n_rows=values.size, n_bins=n_bins)
    known = values[~np.isnan(values)].astype(np.float64)
    # `lower` keeps every edge a value that occurs, so integer data never falls between bins by rounding.
    inner = np.quantile(known, np.arange(1, n_bins) / n_bins, method="lower") if known.size else np.array([])
    edges = tuple(float(edge) for edge in np.unique(inner))
    return ReferenceBins(edges, tuple(int(n) for n in count_in_bins(values, edges)))


def population_stability_index(reference_counts: NDArray[np.integer], counts: NDArray[np.integer]) -> float:
    """Sum over bins of (share - reference share) x ln(share / reference share), >= 0; 0 for equal shares.

    Args:
        reference_counts: Rows per bin of the reference, shape (n_bins,).
        counts: Rows per bin of the sample, same shape.

    Raises:
        OutOfRange: Shapes differ, a count is negative, or one side is empty.

    Source: Siddiqi, Credit Risk Scorecards (2006); a symmetric Kullback-Leibler divergence (Jeffreys).

    >>> population_stability_index(np.array([50, 50]), np.array([500, 500]))
    0.0
    """
    if reference_counts.shape != counts.shape or min(reference_counts.min(), counts.min()) < 0:
        raise OutOfRange("counts of the same bins, none negative", shapes=(reference_counts.shape, counts.shape))
    n_reference, n_sample = int(reference_counts.sum()), int(counts.sum())
    if not n_reference or not n_sample:
        raise OutOfRange("both sides need rows", n_reference=n_reference, n_sample=n_sample)
    used = (reference_counts + counts) > 0
    one, other = reference_counts[used], counts[used]
    # Scaled to the smaller side first: half a row must weigh the same on both, or equal shares would differ.
    scale = min(n_reference, n_sample)
    expected = one / n_reference * scale + PSEUDO_COUNT
    found = other / n_sample * scale + PSEUDO_COUNT
    expected, found = expected / expected.sum(), found / found.sum()
    return float(np.sum((found - expected) * np.log(found / expected)))


def psi_against(reference: ReferenceBins, values: NDArray[np.floating]) -> float:
    """The index of a sample against stored bins."""
    return population_stability_index(np.asarray(reference.counts), count_in_bins(values, reference.edges))
