"""Sources under which the platform files its own records: no sender may take their identities."""

from __future__ import annotations

_OWN = "replenish"


def is_reserved_source(source: str) -> bool:
    """Whether records of this source are the platform's: settled batches, closed letters, started epochs."""
    return source == _OWN or source.startswith(f"{_OWN}.")
