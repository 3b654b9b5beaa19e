"""Which streams a deployment has: those it declares a feed of, and those that came as single events anyway."""

from __future__ import annotations

from replenish.contracts.dataset import Dataset
from replenish.stores.lake import DeltaLake


def has_stream(dataset: Dataset, stream: str, lake: DeltaLake) -> bool:
    """Whether a feed of the stream is declared, or facts of it are in silver.

    Contract-shaped events need no declared feed, so what was delivered is asked of the table.
    """
    table = f"silver/{stream}"
    return bool(dataset.feeds_of(stream)) or (lake.has(table) and lake.row_count(table) > 0)
