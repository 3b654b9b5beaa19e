"""Times in ISO 8601 are read the same whichever way is tried first."""

from __future__ import annotations

import polars as pl
import pytest

from replenish.ingest import instants

ODD = [
    "2025-01-01 08:00:00Z", "2025-01-01T08:00Z", "2025-01-01Z", "2025-01-01T08:00:00.123Z", "2025-01-01T23:59:60Z",
    "2025-01-01T24:00:00Z", "2025-1-1T8:0:0Z", " 2025-01-01T08:00:00Z", "2025-01-01T08:00:00 Z",
    "2025-01-01T08:00:00Z ", "2025-01-01T08:00:00ZZ", "2025-01-01T08:00:00+00:00Z", "0000-01-01T00:00:00Z",
    "+2025-01-01T00:00:00Z", "2025-02-29T00:00:00Z", "20250101T000000Z", "Z", "", "2025-01-01T08:00:00.Z",
    "2025-01-01T08:00:00z", "2025-01-01T08:00:00", "2025-03-30T02:30:00", "12025-01-01T08:00:00Z", None,
    "2025-01-01T08:00:00.1234567890123Z", "2025-01-01T-8:00:00Z", "2025-01-01T08:00:00,5Z", "2025-01-01T 8:00:00Z",
]  # fmt: skip
ODD += [text.replace("Z", "+00:00") for text in ODD if text]
TILL = [f"2025-01-01T08:{i % 60:02d}:{i % 59:02d}Z" for i in range(200)]
DATABASE = [f"2025-01-01 08:{i % 60:02d}:{i % 59:02d}+00:00" for i in range(200)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("common", [TILL, DATABASE, ["2025-01-01T08:00Z"] * 70, ["2025-01-01 08:00:00.5Z"] * 900])
def test_the_fast_ways_read_what_the_slow_one_reads(zone, common):
    text = pl.Series("t", [*common, *ODD])
    # Without the first look at the ending every format is tried on every text.
    slow = instants._read_iso_zoned(text, zone)
    fast = instants._read_instants(text, zone, (), None)
    assert fast.eq_missing(slow).all()


def test_a_time_that_stands_in_every_row_is_read_once(monkeypatch):
    read = []
    real = instants._read_iso
    monkeypatch.setattr(instants, "_read_iso", lambda text, zone: (read.append(text.len()), real(text, zone))[1])
    text = pl.Series("t", ["2025-01-01T08:00:00Z"] * 5_000 + [None])
    assert instants.instants_of(text, "UTC").null_count() == 1
    assert read == [2]
