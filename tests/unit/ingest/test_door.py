"""A folder of files through the door: order, archive, crash, concurrent writers."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from ingest_shop import FEED, HEADER, NOW, SALES, Shop, csv, feed_with, line

from replenish.contracts.dataset import ColumnRule, FileFormat, KnowledgeRule
from replenish.errors import AlreadyRunning, DigestMismatch
from replenish.ingest import door
from replenish.ingest.door import ingest_folder
from replenish.stores.archive import archive_file
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, FILE_ACCEPTED, EventEntry, JournalRecord
from replenish.stores.locks import hold


def test_files_go_to_their_feeds_in_name_order_and_others_are_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for name in ("sales-b.csv", "sales-a.csv", "notes.txt", ".sales-hidden.csv"):
        (shop.layout.drop / name).write_text(csv([line(name)]))
    report = shop.ingest()
    assert [v.file for v in report.files] == ["sales-a.csv", "sales-b.csv"]
    assert report.unmatched == ("notes.txt",)
    assert report.total("offered") == report.total("accepted") == 2


def test_a_folder_that_is_not_there_yet_holds_no_files(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.layout.drop.rmdir()
    assert shop.ingest().files == ()


def test_a_file_that_goes_away_while_its_folder_is_read_does_not_stop_the_others(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for name in ("sales-a.csv", "sales-b.csv"):
        (shop.layout.drop / name).write_text(csv([line(name)]))
    report = ingest_folder(
        *(shop.layout.drop, shop.dataset, {"sales": shop.contract}, shop.journal, shop.layout),
        now=NOW,
        progress=lambda name: (shop.layout.drop / "sales-a.csv").unlink(missing_ok=True),
    )
    assert report.unsettled == ("sales-a.csv",)
    assert [v.file for v in report.files] == ["sales-b.csv"]


@pytest.mark.parametrize("content", [csv([line("r")]), "nothing of the kind\n"], ids=["accepted", "dead"])
def test_an_event_that_bears_a_files_digest_under_the_feeds_name_does_not_stand_for_the_file(
    tmp_path: Path, content: str
) -> None:
    untouched = Shop(tmp_path / "untouched").offer(content)
    shop = Shop(tmp_path / "shop")
    ids = [record.id for record in Journal(tmp_path / "untouched" / "journal.sqlite").records()]
    events = [EventEntry(FEED.feed_id, id_, EVENT_UPSERT, "events.sales", "sales@1.0.0", b"{}") for id_ in ids]
    shop.journal.append_events(events, now=NOW)
    first, again = shop.offer(content, "sales-a.csv"), shop.offer(content, "sales-a.csv")
    assert (first.status, first.offered, first.reasons) == (untouched.status, untouched.offered, untouched.reasons)
    assert (again.status, again.seq) == ("known", first.seq)


def test_of_files_known_by_their_arrival_the_later_one_corrects_the_earlier(tmp_path: Path) -> None:
    shop = Shop(tmp_path, feed=feed_with(knowledge=KnowledgeRule("arrival")))
    for name, qty in (("sales-a.csv", 2), ("sales-b.csv", 3)):
        (shop.layout.drop / name).write_text(csv([line("r", qty=qty)]))
    report = shop.ingest()
    assert [(v.status, v.corrections) for v in report.files] == [("accepted", 0), ("accepted", 1)]
    assert shop.accepted()["knowledge_time"].max() == NOW


def test_a_second_look_at_a_folder_changes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (shop.layout.drop / "sales-a.csv").write_text(csv([line()]))
    shop.ingest()
    before = sorted((p, p.stat().st_mtime_ns) for p in shop.layout.accepted.rglob("*"))
    again = shop.ingest()
    assert [v.status for v in again.files] == ["known"]
    assert again.total("offered") == 0
    assert sorted((p, p.stat().st_mtime_ns) for p in shop.layout.accepted.rglob("*")) == before


def test_reference_data_come_before_events(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    products = replace(SALES, stream="products", is_reference=True)
    feed = replace(FEED, feed_id="shop.products", stream="products", files=("zz*",))
    dataset = replace(shop.dataset, feeds=(FEED, feed))
    for name in ("sales-a.csv", "zz.csv"):
        (shop.layout.drop / name).write_text(csv([line()]))
    told: list[str] = []
    report = ingest_folder(
        shop.layout.drop,
        dataset,
        {"sales": SALES, "products": products},
        shop.journal,
        shop.layout,
        now=NOW,
        progress=told.append,
    )
    assert [v.feed_id for v in report.files] == ["shop.products", "shop.sales"]
    assert told == ["zz.csv", "sales-a.csv"]
    assert {p.parent.name for p in shop.layout.accepted.rglob("*.parquet")} == {"all", "2025-01"}


def test_a_refused_file_gets_another_chance_under_other_rules(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    content = csv([line()]).replace(",", ";")
    assert shop.offer(content, "sales").status == "dead"
    assert shop.offer(content, "sales").status == "known"
    mended = feed_with(format=FileFormat(separator=";"))
    assert shop.offer(content, "sales", feed=mended).status == "accepted"


def test_a_crash_before_the_journal_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path)

    class PowerCut(BaseException):
        pass

    def cut(*args: object, **kwargs: object) -> int:
        raise PowerCut

    content = csv([line("a"), line("b")])
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(shop.journal, "append", cut)
        shop.offer(content, "sales")
    assert shop.accepted().is_empty()
    assert shop.offer(content, "sales").accepted == 2
    assert shop.accepted().height == 2
    assert not list((tmp_path / "scratch").rglob("*.arrow"))


def test_a_writer_that_comes_between_makes_the_file_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    real, rival = shop.journal.append, Journal(shop.layout.journal)
    other = JournalRecord("other.sales", "f1", FILE_ACCEPTED, "x", NOW, "sales@1.0.0", {"parts": []})
    attempts: list[int | None] = []

    def overtaken(*args: object, expected_parts_seq: int | None = None) -> int:
        attempts.append(expected_parts_seq)
        if len(attempts) == 1:
            rival.append(other)
        return real(*args, expected_parts_seq=expected_parts_seq)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.journal, "append", overtaken)
    verdict = shop.offer(csv([line()]))
    assert (verdict.accepted, verdict.seq, attempts) == (1, 2, [0, 1])
    assert shop.accepted()["journal_seq"].to_list() == [2]


def test_a_writer_without_accepted_rows_does_not_disturb_a_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.journal.append(JournalRecord("replenish", "d1", "replenish.decision.executed", "slot", NOW, "decision@1"))
    assert shop.offer(csv([line()])).seq == 2


def test_two_processes_never_ingest_into_one_root_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path)
    monkeypatch.setattr(door, "LOCK_WAIT_SECONDS", 0.0)
    with hold(shop.layout.locks / door.INGEST_LOCK, "test"), pytest.raises(AlreadyRunning):
        shop.ingest()


def test_a_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("half")
    with pytest.raises(DigestMismatch):
        archive_file(path, "0" * 64, tmp_path / "archive")
    assert not [p for p in (tmp_path / "archive").rglob("*") if p.is_file()]


def test_bronze_rows_are_complete_and_typed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line(time="2025-01-10T23:30:00Z", known="2025-01-11T07:30:00") + ",7,x"], HEADER + ",till,note"))
    rows = shop.accepted()
    assert dict(rows.schema) == SALES.bronze_schema
    row = rows.row(0, named=True)
    # 23:30 UTC is the next day in Berlin; 07:30 is after the cut-off, so the next origin is the first to see it.
    assert (str(row["event_date"]), str(row["knowledge_date"])) == ("2025-01-11", "2025-01-12")
    assert json.loads(row["unmapped"]) == {"till": "7", "note": "x"}
    assert row["revenue_cents"] == 150


def test_every_door_format_gives_the_same_facts(tmp_path: Path) -> None:
    lines = [line("a", price="12.35"), line("b", price="0.07", qty=3)]
    rows = [dict(zip(HEADER.split(","), text.split(","), strict=True)) for text in lines]
    typed = pl.DataFrame(rows).with_columns(
        pl.col("qty").cast(pl.Int32), pl.col("price").cast(pl.Float64), pl.col("time").str.to_datetime()
    )
    typed.write_parquet(tmp_path / "typed.parquet")
    parquet = (tmp_path / "typed.parquet").read_bytes()
    jsonl = "\n".join(json.dumps(row | {"price": float(row["price"])}) for row in rows)
    offers = [
        (csv(lines).encode(), FEED),
        (jsonl.encode(), feed_with(format=FileFormat(type="jsonl"))),
        (gzip.compress(jsonl.encode()), feed_with(format=FileFormat(type="jsonl"))),
        (parquet, feed_with(format=FileFormat(type="parquet"))),
        (gzip.compress(parquet), feed_with(format=FileFormat(type="parquet"))),
    ]
    facts = []
    for nr, (content, feed) in enumerate(offers):
        shop = Shop(tmp_path / str(nr))
        shop.offer(content, "sales", feed=feed)
        facts.append(shop.accepted().select(*SALES.names, "event_date", "knowledge_time"))
    assert facts[0].height == 2
    assert all(frame.equals(facts[0]) for frame in facts)


def test_the_journal_record_tells_the_span_of_the_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line("a"), line("b", time="2025-02-01T10:00:00", known="2025-02-02T00:00:00")]))
    data = next(shop.journal.records()).data
    assert (data["event_date_min"], data["event_date_max"]) == ("2025-01-10", "2025-02-01")
    assert data["knowledge_time_max"] == "2025-02-01T23:00:00+00:00"
    assert [part["rows"] for part in data["parts"]] == [1, 1]  # type: ignore[attr-defined]


_MEMORY_PROBE = """
import resource, sys
from pathlib import Path
from ingest_shop import Shop
verdict = Shop(Path(sys.argv[1])).ingest().files[0]
print(verdict.accepted, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
_ROWS_A_MONTH = 20_000


def _peak_mb(root: Path, n_months: int) -> int:
    """Peak memory [MB] of a process that ingests one file of so many months."""
    (root / "drop").mkdir(parents=True)
    lines = pl.DataFrame({"receipt": [f"r{i}" for i in range(_ROWS_A_MONTH)]})
    with (root / "drop" / "sales.csv").open("wb") as file:
        file.write(HEADER.encode() + b"\n")
        for month in [f"{year}-{month:02d}" for year in range(2010, 2025) for month in range(1, 13)][:n_months]:
            row = line("{}", time=f"{month}-10T12:00:00", known=f"{month}-11T12:00:00")
            lines.select(pl.format(row, "receipt")).write_csv(file, include_header=False, quote_style="never")
    probe = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROBE, str(root)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    accepted, peak = map(int, probe.stdout.split())
    assert accepted == n_months * _ROWS_A_MONTH
    return peak


@pytest.mark.slow
def test_memory_is_bounded_by_a_bucket_and_not_by_the_file(tmp_path: Path) -> None:
    # Six times the file; what an allocator keeps varies by a quarter from run to run.
    assert _peak_mb(tmp_path / "large", 180) < 1.6 * _peak_mb(tmp_path / "small", 30)


def test_ids_of_reference_data_may_be_constants(tmp_path: Path) -> None:
    columns = {
        **FEED.columns,
        "location_id": ColumnRule(value="HQ"),
        "sold_at": ColumnRule(value="1970-01-01T00:00:00Z"),
    }
    shop = Shop(tmp_path, feed_with(columns=columns, knowledge=KnowledgeRule("delay", delay_hours=0)))
    shop.offer(csv([line()]))
    assert shop.accepted().select("location_id", "knowledge_time").row(0)[0] == "HQ"
    assert shop.accepted()["knowledge_date"][0].isoformat() == "1970-01-01"


def test_parts_of_older_deployments_that_hold_their_place_are_read_the_same(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line("a"), line("b")]))
    (part,) = shop.layout.accepted.rglob("*.parquet")
    assert "journal_seq" not in pl.read_parquet_schema(part)
    pl.read_parquet(part).with_columns(pl.lit(1, pl.Int64).alias("journal_seq")).write_parquet(part)
    verdict = shop.offer(csv([line("a"), line("b", qty=9, known="2025-01-12T00:00:00")]))
    assert (verdict.duplicate, verdict.corrections) == (1, 1)
