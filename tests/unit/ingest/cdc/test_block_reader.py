"""Blocks read by their columns give what the same changes give one by one: entries, order, letters and position."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from struct import pack

import pytest

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.doors import PostgresSettings
from replenish.contracts.reader import read_contracts
from replenish.ingest.cdc import block_reader
from replenish.ingest.cdc.block_reader import BlockCutter, BlockReader
from replenish.ingest.cdc.change_reader import ChangeReader
from replenish.ingest.cdc.row_events import judge_rows
from replenish.ingest.cdc.source_tables import bind_tables
from replenish.ingest.events.event_door import EventDoor

NOW = datetime(2025, 6, 1, tzinfo=UTC)
DATASET = """
dataset_id: erp
zone: UTC
feeds:
  - feed_id: erp.sales
    stream: sales
    door: events
    columns:
      {location_id: shop, sold_at: sold_at, sale_id: id, sku_id: article, units: qty, customer_id: note}
    knowledge: {source: column, column: KNOWN}
    ignore_columns: [__table, amount, "a \\"b\\""]
"""
COLUMNS = ("shop", "sold_at", "id", "article", "qty", "changed_at", "note", "amount", 'a "b"')
KEY = COLUMNS[:3]
SETTINGS = PostgresSettings("erp", "DSN", "slot", "publication", {"public.sales": "erp.sales"})


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def relation(oid: int, identity: str, table: str = "sales") -> bytes:
    described = b"".join(
        bytes([identity == "f" or name in KEY]) + text(name) + pack(">Ii", 1184 if name.endswith("_at") else 25, -1)
        for name in COLUMNS
    )
    head = b"R" + pack(">I", oid) + text("public") + text(table) + identity.encode()
    return head + pack(">H", len(COLUMNS)) + described


def row(values: list[str | None]) -> bytes:
    cells = [b"n" if v is None else b"t" + pack(">I", len(v.encode())) + v.encode() for v in values]
    return pack(">H", len(values)) + b"".join(cells)


def stream(rng: Random, identity: str) -> list[bytes]:
    """Some transactions of one table and of one that nobody follows."""
    oid, messages, place = 7, [relation(7, identity), relation(8, "d", "other")], 1000

    def values(number: int) -> list[str | None]:
        note = rng.choice(["C1", None, "C2", "é", "", 'q"', "\\", "a\x07b", "x\x7f", "two\nlines"])
        qty = rng.choice(["1", "2", "3", "-1", "x"])
        known = rng.choice(["2025-02-01 00:00:00+00", "2025-02-01 00:00:00.5+00", "nonsense"])
        return [f"S{number % 2}", "2025-01-10 12:00:00+00", str(number), "A1", qty, known, note, None, "b"]

    def old(row_values: list[str | None]) -> bytes:
        told = row_values if identity == "f" else [v if n in KEY else None for n, v in zip(COLUMNS, row_values)]  # noqa: B905
        return (b"O" if identity == "f" else b"K") + row(told)

    for _ in range(rng.randint(1, 8)):
        place += 100
        messages.append(b"B" + pack(">QqI", place, 790_000_000_000_000 + rng.choice([0, 5, 10**6]), 1))
        for _ in range(rng.randint(0, 6)):
            number, kind = rng.randint(0, rng.choice([3, 400])), rng.choice("IIIUUDkx")
            if kind == "x":
                messages.append(b"I" + pack(">I", 8) + b"N" + row(values(number)))
            elif kind == "k":
                moved = b"N" + row(values(number + 1000))
                messages.append(b"U" + pack(">I", oid) + old(values(number)) + moved)
            elif kind == "D":
                messages.append(b"D" + pack(">I", oid) + old(values(number)))
            else:
                messages.append(kind.encode() + pack(">I", oid) + b"N" + row(values(number)))
        messages.append(b"C" + pack(">BQQq", 0, place, place + 10, 0))
    return messages


@pytest.fixture(scope="module", params=["__commit_time", "changed_at"])
def tables_and_door(request, tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("erp") / "dataset.yaml"
    path.write_text(DATASET.replace("KNOWN", request.param))
    dataset, contracts = read_dataset(path), read_contracts()
    return bind_tables(SETTINGS, dataset, contracts, NOW), EventDoor(dataset, contracts, None, lambda: NOW)


def read_all(blocks, tables, door, *, one_by_one):
    reader = BlockReader(ChangeReader("postgres:erp", tables, door, None, None))
    if one_by_one:
        reader._read_plain = lambda messages: None
    entries = []
    for block in blocks:
        batch, dead = reader.read(block)
        entries += [*judge_rows(batch, door, NOW), *dead]
    return entries, reader.state


@pytest.mark.parametrize("identity", ["d", "f"])
def test_both_ways_read_the_same(tables_and_door, identity):
    rng = Random(identity)
    for _ in range(25):
        messages = stream(rng, identity)
        expected = read_all([messages], *tables_and_door, one_by_one=True)
        assert read_all([messages], *tables_and_door, one_by_one=False) == expected


def test_the_usual_block_is_read_by_its_columns(tables_and_door, monkeypatch):
    messages = [m for m in stream(Random(4), "d") if m[:1] in b"RBC" or m[:6] == b"I\0\0\0\7N"]
    monkeypatch.setattr(ChangeReader, "_change", lambda *_: pytest.fail("was read alone"))
    entries, _ = read_all([messages], *tables_and_door, one_by_one=False)
    assert entries


def test_a_block_with_a_broken_message_names_it(tables_and_door):
    messages = stream(Random(5), "d")
    broken = [m[:-1] if m[:1] == b"I" else m for m in messages]
    with pytest.raises(Exception, match="breaks the protocol"):
        read_all([broken], *tables_and_door, one_by_one=False)


def test_blocks_end_at_commits():
    cutter, messages = BlockCutter(), [m for n in range(3_000) for m in stream(Random(n), "d")[2:]]
    blocks = [block for start in range(0, len(messages), 997) for block in cutter.cut(messages[start : start + 997])]
    blocks += cutter.cut([], is_last=True)
    assert len(blocks) > 2
    assert [m for block in blocks for m in block] == messages
    assert {block[-1][:1] for block in blocks} == {b"C"}


def test_large_messages_make_small_blocks(monkeypatch):
    monkeypatch.setattr(block_reader, "BLOCK_BYTES", 1_000)
    cutter = BlockCutter()
    assert list(cutter.cut([b"B", b"I" + bytes(600)])) == []
    assert not cutter.holds(3, 1_000)
    assert list(cutter.cut([b"I" + bytes(600)])) == []
    assert cutter.holds(1_000, 1_000)
    assert [len(block) for block in cutter.cut([b"C", b"B"])] == [4]
    assert not cutter.holds(2, 1_000)
