"""Small worlds for trials: what clients offer, made from a seed, and what must be true of it in the end.

A world has sales facts with duplicates, re-offers, corrections (also out of knowledge order), retractions, faulty rows,
one wholly refused file and one id that comes back with another body. The same deliveries go through any door.
A retraction never overtakes its fact: which of the two came first would decide its verdict.
"""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SOURCE = "pos"
FEED = "events.sales"
STREAM = "sales"
COLUMNS = ("location_id", "sold_at", "sale_id", "sku_id", "units", "revenue_cents", "knowledge_time", "op")

DATASET = """\
dataset_id: trial
zone: Europe/Berlin
cutoff: "06:00"
profile: demo
origin: "2025-06-01"
feeds:
  - feed_id: till.sales
    stream: sales
    files: [sales-*.csv]
    columns:
      location_id: location_id
      sold_at: sold_at
      sale_id: sale_id
      sku_id: sku_id
      units: units
      revenue_cents: revenue_cents
    knowledge: {source: column, column: knowledge_time}
    retraction: {column: op, equals: D}
  - feed_id: erp.sales
    stream: sales
    door: events
    columns:
      location_id: location_id
      sold_at: sold_at
      sale_id: sale_id
      sku_id: sku_id
      units: units
      revenue_cents: revenue_cents
    knowledge: {source: column, column: __commit_time}
    ignore_columns: [__table, note]
"""

NEGATIVE = -3

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Delivery:
    """One thing a client sends: `id` is its identity at the door, `op` I (say) or D (take back)."""

    id: str
    op: str
    row: dict[str, object]
    is_sound: bool = True
    only_event: bool = False
    """Has no meaning as a row of a file: there a row has no id that it could share with another."""
    nr: int = 0
    """Its place among all deliveries of the world."""

    @property
    def key(self) -> Key:
        return str(self.row["location_id"]), str(self.row["sold_at"]), str(self.row["sale_id"])

    def body(self) -> dict[str, object]:
        """The event's data: contract-shaped, with its knowledge time."""
        return dict(self.row)


@dataclass
class World:
    """Everything clients will offer in one trial, in order, cut into waves; and the truth about it."""

    seed: int
    waves: list[list[Delivery]] = field(default_factory=list)

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for wave in self.waves for delivery in wave]

    def truth(self, *, is_mended: bool = False) -> dict[Key, int]:
        """Fact key to the units that hold in the end: those of the newest version, 0 where it was taken back.

        Once the contract is mended, what was refused for negative units holds too.
        """
        newest: dict[Key, tuple[str, int]] = {}
        for delivery in self.deliveries:
            if delivery.is_sound or (is_mended and delivery.row["units"] == NEGATIVE):
                known_at = str(delivery.row["knowledge_time"])
                units = int(str(delivery.row["units"])) if delivery.op == "I" else 0
                if delivery.key not in newest or known_at > newest[delivery.key][0]:
                    newest[delivery.key] = (known_at, units)
        return {key: units for key, (_, units) in newest.items()}

    def files(self) -> list[list[tuple[str, bytes]]]:
        """The waves as CSV files: (name, content); two per wave, and one refused file."""
        made = []
        for number, deliveries in enumerate(self.waves):
            wave = [delivery for delivery in deliveries if not delivery.only_event]
            middle = len(wave) // 2
            pairs = [(f"sales-{number:02}-a.csv", wave[:middle]), (f"sales-{number:02}-b.csv", wave[middle:])]
            made.append([(name, as_csv(rows)) for name, rows in pairs])
        made[0].append(("sales-00-c.csv", b"location_id,sold_at\nS1,2025-03-01T10:00:00+01:00\n"))
        return made


def make_world(seed: int, *, n_facts: int = 48, n_waves: int = 3) -> World:
    """A world; equal for equal arguments."""
    dice = random.Random(seed)
    lines: list[tuple[float, Delivery]] = []
    for number in range(n_facts):
        lines += _life_of(number, dice)
    if not any(delivery.row["units"] == NEGATIVE for _, delivery in lines):
        # One at least that a mended contract accepts: without any there is nothing to redrive.
        _, sound = lines[0]
        refused = sound.row | {"units": NEGATIVE, "sale_id": f"R{n_facts:04}-1"}
        lines.append((dice.random(), Delivery(f"e{n_facts:04}", "I", refused, is_sound=False)))
    lines.sort(key=lambda line: line[0])
    deliveries = [delivery for _, delivery in lines]
    first = next(delivery for delivery in deliveries if delivery.is_sound)
    other = first.row | {"units": 999}
    deliveries.append(Delivery(first.id, "I", other, is_sound=False, only_event=True))
    deliveries = [replace(delivery, nr=nr) for nr, delivery in enumerate(deliveries)]
    size = -(-len(deliveries) // n_waves)
    return World(seed, [deliveries[i : i + size] for i in range(0, len(deliveries), size)])


def _life_of(number: int, dice: random.Random) -> list[tuple[float, Delivery]]:
    """(moment of sending, delivery) of one fact: first version, perhaps repeats, corrections, a retraction."""
    sold = datetime(2025, 3, 1, 9, tzinfo=UTC) + timedelta(minutes=dice.randrange(60 * 24 * 55))
    moment, known = dice.random(), sold + timedelta(minutes=5)
    row: dict[str, object] = {
        "location_id": f"S{1 + number % 2}",
        "sold_at": sold.isoformat(),
        "sale_id": f"R{number:04}-1",
        "sku_id": f"A{dice.randrange(6):03}",
        "units": dice.randrange(1, 9),
        "revenue_cents": dice.randrange(100, 9_000),
        "knowledge_time": known.isoformat(),
    }
    if dice.random() < 0.08:
        faults: tuple[dict[str, object], ...] = ({"units": NEGATIVE}, {"sku_id": ""})
        fault = dice.choice(faults)
        return [(moment, Delivery(f"e{number:04}", "I", row | fault, is_sound=False))]
    first = Delivery(f"e{number:04}", "I", row)
    lines = [(moment, first)]
    if dice.random() < 0.15:
        lines.append((dice.uniform(moment, 1), first))
    if dice.random() < 0.15:
        lines.append((dice.uniform(moment, 1), Delivery(f"e{number:04}-again", "I", row)))
    if dice.random() < 0.2:
        later = (known + timedelta(days=1)).isoformat()
        units = int(str(row["units"])) + 1
        corrected = Delivery(f"e{number:04}-v2", "I", row | {"units": units, "knowledge_time": later})
        lines.append((dice.random(), corrected))
    elif dice.random() < 0.1:
        later = (known + timedelta(days=2)).isoformat()
        lines.append((dice.uniform(moment, 1), Delivery(f"e{number:04}-gone", "D", row | {"knowledge_time": later})))
    return lines


def as_csv(deliveries: list[Delivery]) -> bytes:
    """Deliveries as rows of a source's file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({**delivery.row, "op": delivery.op} for delivery in deliveries)
    return text.getvalue().encode()


def lay_out(root: Path) -> None:
    """An empty deployment for trials."""
    (root / "drop").mkdir(parents=True)
    (root / "dataset.yaml").write_text(DATASET)
