"""Every fault a file can have: refused as a row or as a file, with its reason, and nothing lost."""

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ingest_shop import FEED, HEADER, SALES, Shop, csv, feed_with, line

from replenish.contracts.dataset import Feed, FileFormat

GOOD = [line(f"g{i}") for i in range(8)]


@dataclass(frozen=True)
class Case:
    name: str
    content: bytes
    reason: str
    field: str | None = None
    row_nr: int | None = 9
    feed: Feed = FEED


def _row(text: str) -> bytes:
    return csv([*GOOD, text]).encode()


ROW_FAULTS = [
    Case("text in a number", _row(line(qty="two")), "not_a_number", "units"),
    Case("half a unit", _row(line(qty="1.5")), "not_a_number", "units"),
    Case("a negative quantity", _row(line(qty=-2)), "below_minimum", "units"),
    Case("a negative price", _row(line(price="-1.50")), "below_minimum", "revenue_cents"),
    Case("NaN as a price", _row(line(price="NaN")), "not_a_number", "revenue_cents"),
    Case("infinity as a price", _row(line(price="inf")), "not_a_number", "revenue_cents"),
    Case("more than 64 bits", _row(line(qty="9" * 25)), "not_a_number", "units"),
    Case("more than 128 bits", _row(line(price="9" * 60)), "not_a_number", "revenue_cents"),
    Case("a sum that would leave 64 bits", _row(line(qty=2**63 - 1)), "not_a_number", "units"),
    Case("the year 9999", _row(line(time="9999-12-31T23:00:00")), "bad_time", "sold_at"),
    Case("the year 201", _row(line(time="0201-05-10T12:00:00")), "bad_time", "sold_at"),
    Case("known in the year 9999", _row(line(known="9999-12-31T23:00:00")), "bad_time", "knowledge_time"),
    Case("no article", _row(line(article="")), "missing_required", "sku_id"),
    Case("no quantity", _row(line(qty="")), "missing_required", "units"),
    Case("a date that does not exist", _row(line(time="2025-02-30T10:00:00")), "bad_time", "sold_at"),
    Case("an hour that the clock change skips", _row(line(time="2025-03-30T02:30:00")), "bad_time", "sold_at"),
    Case("no knowledge time", _row(line(known="")), "bad_time", "knowledge_time"),
    Case("too few fields", _row("S1,2025-01-10T12:00:00,r1"), "wrong_field_count"),
    Case("too many fields", _row(line() + ",x"), "wrong_field_count"),
    Case("a retraction of what nobody knew", _row(line(op="D")), "retraction_of_unknown"),
    Case(
        "no JSON",
        b'{"shop": "S1"\n' + json.dumps(dict(zip(HEADER.split(","), line().split(","), strict=True))).encode() + b"\n",
        "not_json",
        row_nr=1,
        feed=feed_with(format=FileFormat(type="jsonl")),
    ),
]


@pytest.mark.parametrize("case", ROW_FAULTS, ids=lambda case: case.name)
def test_a_faulty_row_is_dead_and_the_rest_flows(tmp_path: Path, case: Case) -> None:
    shop = Shop(tmp_path)
    verdict = shop.offer(case.content, "sales", feed=case.feed)
    assert verdict.status == "accepted"
    assert shop.reasons() == [(case.row_nr, case.reason, case.field)]
    assert verdict.accepted == verdict.offered - 1 == shop.accepted().height
    assert verdict.reasons == {case.reason: 1}
    assert shop.journal.dead_letters()[0].raw


_UNEVEN = b"".join(b"%d,%d,%d,\n" % (n, n * 7919, n * n) for n in range(20_000))
FILE_FAULTS = [
    Case("no bytes", b"", "empty_file"),
    Case("a missing column", csv(["S1,x"], "shop,time").encode(), "missing_column"),
    Case("a header that lacks a column, and no rows", b"shop,time\n", "missing_column"),
    Case("the wrong separator", csv(GOOD).replace(",", ";").encode(), "missing_column"),
    Case("two columns of one name", csv(GOOD, HEADER.replace("op", "qty")).encode(), "duplicate_column"),
    Case("latin-1 called UTF-8", csv([line(article="Käse")]).encode("latin-1"), "wrong_encoding"),
    Case("an unknown encoding", b"x", "wrong_encoding", feed=feed_with(format=FileFormat(encoding="klingon"))),
    Case("a gzip file cut short", gzip.compress(HEADER.encode() + b"\n" + _UNEVEN)[:-4000], "unreadable"),
    Case("a damaged gzip file", gzip.compress(csv(GOOD).encode())[:12] + b"\x00" * 40, "unreadable"),
    Case("a NUL in a name", csv(GOOD).replace("shop", "shop\0", 1).encode(), "unreadable"),
    Case("a hundred thousand columns", ",".join(f"c{nr}" for nr in range(100_000)).encode(), "unreadable"),
    Case("a gzip bomb", gzip.compress(HEADER.encode() + b"\n" * (80 << 20), 1), "gzip_bomb"),
    Case("no Parquet", b"PAR1 it is not", "unreadable", feed=feed_with(format=FileFormat(type="parquet"))),
    Case("a quote that is never closed", csv([*GOOD, line('"q'), *GOOD]).encode(), "unclosed_quote"),
    Case("a last field never closed", csv([*GOOD, line("q", known='"x'), *GOOD]).encode(), "unclosed_quote"),
    Case("mostly faults", csv([*GOOD, *[line(f"b{i}", qty="x") for i in range(9)]]).encode(), "dead_share"),
    Case("one key twice", csv([*GOOD, line("k", qty=1), line("k", qty=2)]).encode(), "key_conflict"),
    Case("an offset of another zone", _row(line(time="2025-01-10T12:00:00+05:30")), "zone_contradiction"),
    Case("a summer offset in winter", _row(line(time="2025-01-10T12:00:00+02:00")), "zone_contradiction"),
]  # fmt: skip


@pytest.mark.parametrize("case", FILE_FAULTS, ids=lambda case: case.name)
def test_a_faulty_file_is_dead_as_a_whole(tmp_path: Path, case: Case) -> None:
    shop = Shop(tmp_path)
    verdict = shop.offer(case.content, "sales", feed=case.feed)
    assert (verdict.status, verdict.accepted, verdict.duplicate) == ("dead", 0, 0)
    assert verdict.offered == verdict.dead
    assert shop.reasons()[0] == (None, case.reason, None)
    assert verdict.fault
    assert shop.accepted().is_empty()
    record = next(shop.journal.records())
    archived = shop.layout.archive / str(record.data["archive"])
    assert archived.read_bytes() == case.content


def _text_format(**changes: object) -> Feed:
    return feed_with(format=replace(FileFormat(), **changes))  # type: ignore[arg-type]


SOUND_FORMS = [
    ("a byte order mark", b"\xef\xbb\xbf" + csv(GOOD).encode(), FEED),
    ("CR line ends", csv(GOOD, end="\r").encode(), FEED),
    ("CRLF line ends", csv(GOOD, end="\r\n").encode(), FEED),
    ("no last line end", csv(GOOD).rstrip("\n").encode(), FEED),
    ("blank lines", csv([*GOOD[:4], "", *GOOD[4:]]).encode(), FEED),
    ("latin-1", csv([line("Käse"), *GOOD[1:]]).encode("latin-1"), _text_format(encoding="latin-1")),
    ("UTF-16", csv(GOOD).encode("utf-16"), _text_format(encoding="utf-16")),
    ("tabs", csv(GOOD).replace(",", "\t").encode(), _text_format(separator="\t")),
    ("gzip", gzip.compress(csv(GOOD).encode()), FEED),
    ("two gzip members", gzip.compress(csv(GOOD[:7]).encode()) + gzip.compress(GOOD[7].encode()), FEED),
    ("quoted line ends and separators", csv([line('"a\n,""b"""'), *GOOD[1:]]).encode(), FEED),
    ("UTC instants", csv([line("z", time="2025-01-10T11:00:00Z"), *GOOD[1:]]).encode(), FEED),
    ("offsets of the zone", csv([line("z", time="2025-07-10T12:00:00+02:00"), *GOOD[1:]]).encode(), FEED),
]  # fmt: skip


@pytest.mark.parametrize(("content", "feed"), [case[1:] for case in SOUND_FORMS], ids=[case[0] for case in SOUND_FORMS])
def test_the_form_of_a_file_costs_no_row(tmp_path: Path, content: bytes, feed: Feed) -> None:
    shop = Shop(tmp_path)
    verdict = shop.offer(content, "sales", feed=feed)
    assert (verdict.status, verdict.offered, verdict.accepted) == ("accepted", 8, 8), verdict


def test_a_header_alone_is_a_file_of_no_rows(tmp_path: Path) -> None:
    verdict = Shop(tmp_path).offer(HEADER)
    assert (verdict.status, verdict.offered) == ("accepted", 0)


def test_a_file_that_lacks_a_column_has_its_rows_counted(tmp_path: Path) -> None:
    verdict = Shop(tmp_path).offer(csv(GOOD).replace("qty", "pieces"))
    assert (verdict.offered, verdict.dead, verdict.reasons) == (8, 8, {"missing_column": 8})


def test_a_sale_in_the_future_is_kept_for_its_time(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.offer(csv([line(time="2031-01-01T00:00:00")])).accepted == 1
    assert shop.accepted()["event_date"][0].year == 2031


def test_a_dead_row_keeps_its_text_and_number_behind_broken_rows(tmp_path: Path) -> None:
    shop = Shop(tmp_path, contract=replace(SALES, max_dead_share=1.0))
    shop.offer(csv(["a,b", line("q", qty='"x, ""y"""'), "c", *(line(f"ok{i}") for i in range(2))]))
    letters = {d.row_nr: d for d in shop.journal.dead_letters()}
    assert sorted(nr for nr in letters if nr) == [1, 2, 3]
    assert letters[1].raw == "a,b"
    assert json.loads(letters[2].raw or "")["qty"] == 'x, "y"'
    assert shop.accepted()["row_nr"].to_list() == [4, 5]


def test_objects_without_a_field_are_rows_that_lack_everything(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    lines = [json.dumps(dict(zip(HEADER.split(","), text.split(","), strict=True))) for text in GOOD]
    jsonl = feed_with(format=FileFormat(type="jsonl"))
    alone = shop.offer("{}\n{}\n", "sales-1", feed=jsonl)
    assert (alone.status, alone.offered, alone.dead) == ("dead", 2, 2)
    beside = shop.offer("\n".join([*lines, "{}"]), "sales-2", feed=jsonl)
    assert (beside.status, beside.accepted, beside.reasons) == ("accepted", 8, {"missing_required": 1})
