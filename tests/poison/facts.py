"""Sound sales facts that the poisoned inputs are made from, and what a row must say if it is accepted all the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

FIRST_SALE = datetime(2025, 1, 6, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Fact:
    """One sale. `sale_id` tells which one a stored row came from."""

    location_id: str
    sold_at: datetime
    sale_id: str
    sku_id: str
    units: int
    revenue_cents: int
    known_at: datetime

    def but(self, **changes: object) -> Fact:
        return replace(self, **changes)  # type: ignore[arg-type]

    def as_fields(self) -> dict[str, object]:
        """The fact in the contract's own terms."""
        return {
            "location_id": self.location_id,
            "sold_at": instant(self.sold_at),
            "sale_id": self.sale_id,
            "sku_id": self.sku_id,
            "units": self.units,
            "revenue_cents": self.revenue_cents,
            "knowledge_time": instant(self.known_at),
        }


def instant(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sound_fact(nr: int, rng: Random) -> Fact:
    """The fact of number `nr`; no two numbers share a key."""
    sold = FIRST_SALE + timedelta(seconds=37 * (nr % 400_000))
    return Fact(
        location_id=f"S{rng.randint(1, 20)}",
        sold_at=sold,
        sale_id=f"p{nr}",
        sku_id=f"A{rng.randint(1, 500)}",
        units=rng.randint(1, 40),
        revenue_cents=rng.randint(100, 90_000),
        known_at=sold + timedelta(hours=rng.randint(1, 30)),
    )
