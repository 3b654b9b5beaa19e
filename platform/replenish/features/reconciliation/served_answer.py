"""What reconciliation has to know of a vector that was served; the twin's own log keeps more (`online.served_log`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from replenish.features.online.postings import Plain


class ServedAnswer(Protocol):
    """One answer of the twin, as it was given."""

    @property
    def feature_set(self) -> str:
        """Name of the set."""
        ...

    @property
    def feature_set_id(self) -> str:
        """Of the definitions that it was computed by."""
        ...

    @property
    def code_digest(self) -> str:
        """Of the program that computed it."""
        ...

    @property
    def key(self) -> tuple[str | int, ...]:
        """Values of the set's entity columns, in its order."""
        ...

    @property
    def as_of(self) -> datetime:
        """With a zone."""
        ...

    @property
    def served_at(self) -> datetime:
        """When it was given; a daily set is asked all day for the vector of its last cut-off."""
        ...

    @property
    def seq(self) -> int:
        """Everything of the log up to here was in it, and nothing of the key behind it."""
        ...

    @property
    def values(self) -> Mapping[str, Plain]:
        """By name of feature; instants and days as ISO text."""
        ...
