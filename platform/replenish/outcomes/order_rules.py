"""Order rules to simulate: ours (order up to a base-stock level), and the baseline, (s, S) on seasonal naive."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from replenish.errors import OutOfRange
from replenish.outcomes.simulate import OrderRule


def base_stock_rule(
    base_stock_level: np.ndarray, is_review_day: np.ndarray, pack_size: np.ndarray, min_order: np.ndarray
) -> OrderRule:
    """Order up to `base_stock_level` (n_days, n_series) when the inventory position lies below it on a review day."""
    return OrderRule(base_stock_level - 1, base_stock_level, is_review_day, pack_size, min_order)


def economic_order_quantity(order_cost: np.ndarray, holding_cost: np.ndarray, demand_rate: np.ndarray) -> np.ndarray:
    """Order size that balances order and holding cost, `sqrt(2 K lambda / h)` [units].

    Args:
        order_cost: K, cost of one order [money], >= 0.
        holding_cost: h, cost of holding one unit for one time unit [money], > 0.
        demand_rate: lambda, demand per time unit [units], >= 0.

    Raises:
        OutOfRange: An argument lies outside its range.

    Source: Snyder and Shen, Fundamentals of Supply Chain Theory, section 3.2 (example 3.1).

    >>> round(float(economic_order_quantity(np.array(8.0), np.array(0.225), np.array(1300.0))), 2)
    304.05
    """
    if (
        (np.asarray(order_cost) < 0).any()
        or (np.asarray(holding_cost) <= 0).any()
        or (np.asarray(demand_rate) < 0).any()
    ):
        raise OutOfRange("EOQ needs order cost >= 0, holding cost > 0, demand rate >= 0")
    return np.sqrt(2 * order_cost * demand_rate / holding_cost)


def seasonal_naive_levels(
    history: np.ndarray,
    lead_mean_days: np.ndarray,
    lead_sd_days: np.ndarray,
    review_days: np.ndarray,
    order_quantity: np.ndarray,
    *,
    season_days: int,
    cycle_service_level: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Levels (s, S) of the baseline as known at the end of `history`, each (n_series,), int64 units.

    s = mean demand of the protection interval as the last season repeats + z * sd, S = s + order quantity. The sd is
    that of the seasonal naive's own one-season-ahead errors in `history`, with the variance of the lead time added.

    Args:
        history: Units by day and series, oldest first, (n_days, n_series), at least two seasons.
        lead_mean_days: Mean lead time [days], (n_series,).
        lead_sd_days: Standard deviation of the lead time [days], (n_series,).
        review_days: Time between order chances [days], (n_series,).
        order_quantity: Units between s and S, (n_series,), >= 0.
        season_days: Length of the season that is repeated [days].
        cycle_service_level: Probability of no stock-out in a cycle that the safety stock aims at, (n_series,), each in
            (0, 1).

    Raises:
        OutOfRange: The history is shorter than two seasons, or the service level lies outside (0, 1).

    Source: Silver, Pyke and Thomas, Inventory and Production Management in Supply Chains, chapter 7 (variance of
    demand over a random interval: E[L] var(D) + E[D]^2 var(L)).
    """
    is_probability = (cycle_service_level > 0) & (cycle_service_level < 1)
    if len(history) < 2 * season_days or not is_probability.all():
        raise OutOfRange("the baseline needs two seasons of history and a service level in (0, 1)", n_days=len(history))
    daily = history[-season_days:].sum(axis=0) / season_days
    error = (history[season_days:] - history[:-season_days]).astype(np.float64)
    variance = (error**2).mean(axis=0)
    protection = lead_mean_days + review_days
    deviation = np.sqrt(protection * variance + daily**2 * lead_sd_days**2)
    z = np.array([NormalDist().inv_cdf(level) for level in cycle_service_level.tolist()])
    s = daily * protection + z * deviation
    reorder_point = np.maximum(np.ceil(s), 0).astype(np.int64)
    return reorder_point, reorder_point + np.maximum(np.ceil(order_quantity), 1).astype(np.int64)
