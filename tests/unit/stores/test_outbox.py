"""The outbox: one file per order, whole or not at all, and once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replenish.errors import OutOfRange, WriteConflict
from replenish.stores.outbox import Outbox, OutboxOrder

ORDER = OutboxOrder(
    "slot-1", "d1", "slot", 1, "2025-02-04", "2025-02-04T05:00:00+00:00", "V1", "A1", "S1", 36, 360, "x"
)


def test_an_order_put_twice_is_one_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert [outbox.put(ORDER), outbox.put(ORDER)] == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["slot-1.json"]
    assert outbox.orders() == (ORDER,)


def test_an_order_that_was_taken_is_not_written_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(ORDER)
    outbox.taken.mkdir()
    (tmp_path / "slot-1.json").rename(outbox.taken / "slot-1.json")
    assert not outbox.put(ORDER)
    assert list(tmp_path.glob("*.json")) == []
    assert outbox.orders() == (ORDER,)


def test_a_key_never_names_two_orders(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(ORDER)
    with pytest.raises(WriteConflict):
        outbox.put(replace(ORDER, order_units=72))
    assert outbox.orders() == (ORDER,)


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", "x" * 129])
def test_a_key_that_could_leave_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(OutOfRange):
        Outbox(tmp_path).put(replace(ORDER, idempotency_key=key))


def test_a_draft_left_by_a_crash_is_no_order(tmp_path: Path) -> None:
    (tmp_path / ".slot-1.json.draft").write_text('{"half": ')
    outbox = Outbox(tmp_path)
    assert outbox.orders() == ()
    assert outbox.put(ORDER)
