"""The outbox: one JSON file per executed order, for whoever carries it to the supplier.

The journal is the truth about what was executed; a file here is its delivery and can be written again from it. The file
name is the idempotency key, so writing twice is one order. A taker moves a file into `taken/` when it has it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from replenish.errors import OutOfRange, WriteConflict
from replenish.stores.durable import fsync_path
from replenish.stores.lake_fence import refuse_fenced
from replenish.stores.layout import RootLayout

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


@dataclass(frozen=True)
class OutboxOrder:
    """One order to a supplier. `idempotency_key`: slot and executed revision; quantities in units, value in cents."""

    idempotency_key: str
    decision_id: str
    slot_id: str
    revision: int
    origin_date: str
    executed_at: str
    supplier_id: str | None
    sku_id: str
    location_id: str
    order_units: int
    order_cost_cents: int | None
    explanation: str


class Outbox:
    """Orders below one folder; safe to write again after a crash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def taken(self) -> Path:
        """Where a taker moves what it has."""
        return self.folder / "taken"

    def put(self, order: OutboxOrder) -> bool:
        """Write the order to disk; False where this key is already there or was taken.

        Raises:
            OutOfRange: The key cannot be a file name.
            WriteConflict: The key names another order.
            Fenced: A standby was promoted in place of this root, and it sends the orders now.
        """
        refuse_fenced(RootLayout(self.folder.parent))
        if not _KEY.fullmatch(order.idempotency_key):
            raise OutOfRange("not an idempotency key", key=order.idempotency_key)
        name = f"{order.idempotency_key}.json"
        for path in (self.folder / name, self.taken / name):
            if path.is_file():
                if _read(path) != asdict(order):
                    raise WriteConflict("this key names another order", key=order.idempotency_key)
                return False
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.draft"
        draft.write_text(json.dumps(asdict(order), sort_keys=True, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        fsync_path(draft)
        # A rename inside one folder is atomic: a taker sees the whole order or none.
        draft.replace(self.folder / name)
        fsync_path(self.folder)
        return True

    def orders(self) -> tuple[OutboxOrder, ...]:
        """Every order ever put, waiting and taken, in key order."""
        paths = [*self.folder.glob("*.json"), *self.taken.glob("*.json")]
        return tuple(OutboxOrder(**_read(path)) for path in sorted(paths, key=lambda p: p.name))


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
