"""The decoder on hand-made messages, and on broken ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.errors import SourceFault
from replenish.ingest.cdc.known_rows import position_of
from replenish.ingest.cdc.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    PgoutputDecoder,
    Relation,
    RowChange,
    Truncation,
    lsn_number,
    lsn_text,
)

RELATION = (
    b"R" + struct.pack(">I", 7) + b"public\0sales\0d" + struct.pack(">H", 3)
    + b"".join(bytes([flag]) + name + b"\0" + struct.pack(">Ii", oid, -1)
               for flag, name, oid in ((1, b"id", 23), (0, b"note", 25), (0, b"sold_at", 1184)))
)  # fmt: skip


def cells(*values: bytes | str | None) -> bytes:
    parts = [b"n" if v is None else b"u" if v == "u" else b"t" + struct.pack(">I", len(v)) + v for v in values]  # type: ignore[operator,arg-type]
    return struct.pack(">H", len(values)) + b"".join(parts)


def change(kind: bytes, *parts: bytes) -> bytes:
    return kind + struct.pack(">I", 7) + b"".join(parts)


def decoder() -> PgoutputDecoder:
    decoder = PgoutputDecoder()
    assert decoder.decode(RELATION) == Relation(7, "public", "sales", "d", ("id", "note", "sold_at"), ("id",), (2,))
    return decoder


def test_null_and_empty_text_are_two_things() -> None:
    message = decoder().decode(change(b"I", b"N", cells(b"1", b"", None)))
    assert isinstance(message, RowChange)
    assert message.new == ["1", "", None]


def test_an_update_tells_old_key_or_old_row() -> None:
    row = cells("é".encode(), "u", b"x")
    key = decoder().decode(change(b"U", b"K", cells(b"0", None, None), b"N", row))
    full = decoder().decode(change(b"U", b"O", cells(b"0", b"a", b"b"), b"N", row))
    assert isinstance(key, RowChange)
    assert isinstance(full, RowChange)
    assert (key.is_old_key, key.old, key.new) == (True, ["0", None, None], ["é", UNCHANGED, "x"])
    assert (full.is_old_key, full.old) == (False, ["0", "a", "b"])


def test_transactions_and_truncates() -> None:
    reading = decoder()
    begin = reading.decode(b"B" + struct.pack(">QqI", 0x16B374D848, 86_400_000_000, 5))
    assert isinstance(begin, Begin)
    assert lsn_text(begin.commit_lsn) == "16/B374D848"
    assert begin.commit_time.isoformat() == "2000-01-02T00:00:00+00:00"
    assert reading.decode(b"C" + struct.pack(">BQQq", 0, 5, 9, 0)) == Commit(5, 9)
    truncation = reading.decode(b"T" + struct.pack(">IBI", 1, 0, 7))
    assert isinstance(truncation, Truncation)
    assert [relation.name for relation in truncation.relations] == ["public.sales"]
    assert reading.decode(b"O" + b"\0" * 9) is None


@pytest.mark.parametrize(
    "message",
    [
        b"", b"Z", b"B\0", b"R\0\0", change(b"I", b"N", cells(b"1")), change(b"I", b"X", cells(b"1", b"", b"")),
        change(b"I", b"N", cells(b"1", b"2", b"3"), b"more"), change(b"D", b"N", cells(b"1", b"2", b"3")),
        change(b"I", b"N", cells(b"\xff", b"2", b"3")), change(b"I", b"N", b"\0\x03t\xff\xff\xff\xffabc"),
        b"I" + struct.pack(">I", 8) + b"N" + cells(b"1", b"2", b"3"),
    ],
)  # fmt: skip
def test_a_broken_message_is_a_named_fault(message: bytes) -> None:
    with pytest.raises(SourceFault):
        decoder().decode(message)


@given(st.sampled_from(b"BCRIUDTYOMZ"), st.binary(max_size=80))
def test_bytes_of_any_kind_never_crash_the_decoder(kind: int, rest: bytes) -> None:
    reading = decoder()
    for message in (bytes([kind]) + rest, bytes([kind]) + struct.pack(">I", 7) + rest):
        try:
            reading.decode(message)
        except SourceFault:
            continue


def test_event_ids_tell_their_place_in_the_source() -> None:
    assert lsn_number(lsn_text(1 << 40)) == 1 << 40
    ordered = ["snapshot:0/15A:public.sales:ab", "0/15A:2", "0/15A:10.old", "1/0:0.ff"]
    places = [position_of(id) for id in ordered]
    assert places == sorted(places, key=lambda place: place or (0, 0))
    assert position_of("redriven") is None
