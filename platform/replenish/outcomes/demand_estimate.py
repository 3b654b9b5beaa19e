"""Demand behind sales: a stock-out censors it, a broken record inflates it; both are estimated from usual days."""

from __future__ import annotations

import numpy as np

USUAL_DAYS = 28
IMPLAUSIBLE_MULTIPLE = 10
"""A day beyond this multiple of the largest other day is a broken record (a quantity typed with its article number)."""
IMPLAUSIBLE_UNITS = 100
"""Below this nothing is implausible: small items jump."""


def estimate_demand(sales: np.ndarray, is_empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Demand by day and series, and where it is an estimate.

    A day that ended with an empty shelf has at least the mean of the usual days among the 28 before it; an implausible
    day has exactly that. Everything else is what was sold. Negative sales (more taken back than sold) count as zero.

    Args:
        sales: Units sold, int64 (n_days, n_series).
        is_empty: Days whose last stock count found nothing, bool of the same shape.

    Returns:
        Demand, int64, and bool, both (n_days, n_series). The mean is rounded half up.
    """
    sold = np.maximum(sales, 0)
    is_broken = _implausible(sold)
    is_usual = ~is_empty & ~is_broken
    totals = _running(np.where(is_usual, sold, 0))
    counts = _running(is_usual.astype(np.int64))
    mean = np.where(counts > 0, (2 * totals + counts) // np.maximum(2 * counts, 1), 0)
    demand = np.where(is_broken, mean, np.where(is_empty, np.maximum(sold, mean), sold))
    return demand, is_broken | (is_empty & (demand > sold))


def _running(values: np.ndarray) -> np.ndarray:
    """Sums over the `USUAL_DAYS` days before each day, itself not among them."""
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    day = np.arange(len(values))
    return total[day] - total[np.maximum(day - USUAL_DAYS, 0)]


def _implausible(sold: np.ndarray) -> np.ndarray:
    """Days beyond the multiple of the largest other day of the series."""
    if len(sold) < 2:
        return np.zeros(sold.shape, dtype=bool)
    ranked = np.sort(sold, axis=0)
    largest_other = np.where(sold == ranked[-1], ranked[-2], ranked[-1])
    return (sold > IMPLAUSIBLE_UNITS) & (sold > IMPLAUSIBLE_MULTIPLE * largest_other)
