"""Settings of the service simulation: `outcomes` in the options of a data set, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from replenish.contracts.dataset import Dataset
from replenish.errors import ContractError


@dataclass(frozen=True)
class ServiceOptions:
    """What a data set may set under `options: {outcomes: ...}`; shortage always costs the margin of the unit."""

    n_days: int = 56
    """Days before the origin that are simulated, at most."""
    holding_rate_bp_per_year: int = 2500
    """A quarter of the unit cost a year: capital, space, shrinkage; the textbook middle of 15-35 %."""
    order_cost_cents: int = 20
    """Handling of one line of a combined order."""
    warm_up_days: int = 21
    """First days that the summary leaves out: what is sold before the first orders arrive tells nothing."""
    default_review_days: int = 7
    """Where a supplier names no review period."""
    cycle_service_level_bp: int = 9000
    """Target of the baseline, and of ours where no level was written, in basis points: our policy's default ratio."""
    seed: int = 0
    """Of the lead times that are drawn."""

    @property
    def cycle_service_level(self) -> float:
        """The target as a probability."""
        return self.cycle_service_level_bp / 10_000


def read_service_options(dataset: Dataset) -> ServiceOptions:
    """The options of a data set; ContractError for an unknown name or an impossible value."""
    given = dataset.options.get("outcomes", {})
    names = {f.name for f in fields(ServiceOptions)}
    if not isinstance(given, Mapping) or not set(given) <= names:
        raise ContractError(f"options.outcomes knows {sorted(names)}", dataset_id=dataset.dataset_id)
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ContractError(f"options.outcomes.{name} is a whole number >= 0", dataset_id=dataset.dataset_id)
    options = ServiceOptions(**given)
    if min(options.n_days, options.holding_rate_bp_per_year, options.default_review_days) < 1:
        raise ContractError("options.outcomes: days and holding rate are at least 1", dataset_id=dataset.dataset_id)
    if not 0 < options.cycle_service_level < 1:
        raise ContractError("options.outcomes.cycle_service_level_bp is 1..9999", dataset_id=dataset.dataset_id)
    return options
