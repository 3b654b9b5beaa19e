"""What was served is kept: every nth answer, a file a day, and no half line spoils another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.online.postings import instant_us
from replenish.features.online.served_log import ServedLog, ServedVector, read_served, told_values

AT = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
SERVED = ServedVector("small", "1.0.0", "id", "code", ("tea", 7), AT, 12, AT, {"mean": 0.1 + 0.2, "last": None}, {})


def test_every_nth_answer_is_kept_beginning_with_the_first() -> None:
    kept = {every: sum(ServedLog(Path(), every).is_wanted() for _ in range(1)) for every in (0, 1, 3)}
    assert kept == {0: 0, 1: 1, 3: 1}
    log = ServedLog(Path(), 3)
    assert [log.is_wanted() for _ in range(7)] == [True, False, False, True, False, False, True]


def test_answers_come_back_as_they_were_from_a_file_a_day(tmp_path: Path) -> None:
    log = ServedLog(tmp_path / "served", 1)
    later = msgspec.structs.replace(SERVED, served_at=AT + timedelta(minutes=2), seq=13)
    for served in (SERVED, SERVED, later):
        log.keep(served)
    log.close()
    assert [path.name for path in sorted((tmp_path / "served").iterdir())] == ["2026-03-01.jsonl", "2026-03-02.jsonl"]
    assert list(read_served(tmp_path / "served")) == [SERVED, SERVED, later]
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    assert list(read_served(tmp_path / "served", (second, second))) == [later]
    assert list(read_served(tmp_path / "served", (first, first))) == [SERVED, SERVED]


def test_half_a_line_is_left_out_and_cut_off_before_the_next(tmp_path: Path) -> None:
    log = ServedLog(tmp_path, 1)
    log.keep(SERVED)
    log.close()
    path = tmp_path / "2026-03-01.jsonl"
    path.write_bytes(path.read_bytes() + b'{"feature_set": "sm')
    assert list(read_served(tmp_path)) == [SERVED]
    again = ServedLog(tmp_path, 1)
    again.keep(SERVED)
    again.close()
    assert list(read_served(tmp_path)) == [SERVED, SERVED]


def test_instants_and_days_are_told_as_text() -> None:
    columns = tuple(SourceColumn(name, name, "", kind) for name, kind in (("at", "timestamp"), ("on", "date")))  # type: ignore[arg-type]
    source = FeatureSource("s", "gold/fct_s", "s", ("id",), columns)
    features = tuple(FeatureDefinition(name, "last", "", "", "s", name) for name in ("at", "on"))
    feature_set = FeatureSet("small", "1.0.0", "", "", "instant", ("sku_id",), (source,), features)
    assert told_values(feature_set, (instant_us(AT), 1)) == {"at": AT.isoformat(), "on": "1970-01-02"}
    empty = replace(feature_set, features=features[:1])
    assert told_values(empty, (None,)) == {"at": None}
