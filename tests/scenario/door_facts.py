"""The same facts for every door: deliveries with duplicates and corrections, in an order of the door's own."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

FIRST_SALE = datetime(2025, 1, 1, tzinfo=UTC)
SHARE_OF_CORRECTIONS = 0.03
SHARE_OF_DUPLICATES = 0.10
SHARE_LATE = 0.05


class Delivery(NamedTuple):
    """One offered row: `id` is the delivery's own; the same fact may come under two ids."""

    id: str
    fields: dict[str, object]

    def body(self) -> bytes:
        return json.dumps(self.fields).encode()


def facts(count: int) -> list[dict[str, object]]:
    """Sales lines over 60 days, contract-shaped; some come again later with other units: corrections."""
    dice = random.Random(7)
    found = []
    for nr in range(count):
        sold_at = FIRST_SALE + timedelta(seconds=nr * (60 * 86_400) // count)
        known = sold_at + timedelta(minutes=dice.randint(1, 600))
        fact: dict[str, object] = {
            "location_id": f"S{dice.randint(1, 9)}",
            "sold_at": sold_at.isoformat(),
            "sale_id": f"r{nr}",
            "sku_id": f"A{dice.randint(1, 200)}",
            "units": dice.randint(0, 12),
            "revenue_cents": dice.randint(0, 90_000),
            "customer_id": f"C{nr % 977}",
            "knowledge_time": known.isoformat(),
        }
        found.append(fact)
        if dice.random() < SHARE_OF_CORRECTIONS:
            later = (known + timedelta(days=dice.randint(1, 5))).isoformat()
            found.append(fact | {"units": dice.randint(13, 20), "knowledge_time": later})
    return found


def deliveries(count: int, seed: int) -> list[Delivery]:
    """All facts with a tenth of duplicates (half of them the same delivery again), shuffled nearby, some very late."""
    dice = random.Random(seed)
    first = [Delivery(f"d{nr}", fact) for nr, fact in enumerate(facts(count))]
    span = len(first)
    placed = [(nr + dice.uniform(-500, 500) + _delay(dice, span), each) for nr, each in enumerate(first)]
    for nr in dice.sample(range(span), int(SHARE_OF_DUPLICATES * count)):
        again = first[nr] if dice.random() < 0.5 else Delivery(f"{first[nr].id}-again", first[nr].fields)
        placed.append((nr + dice.uniform(0, span), again))
    placed.sort(key=lambda each: each[0])
    return [each for _, each in placed]


def _delay(dice: random.Random, span: int) -> float:
    return dice.uniform(0, span) if dice.random() < SHARE_LATE else 0.0
