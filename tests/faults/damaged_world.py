"""A small deployment with a history of commits, and every way in which its files get damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import apsw
import polars as pl
from deltalake import DeltaTable

from replenish.cli.deployment import Deployment
from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.reader import read_contracts
from replenish.digests import table_digest
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.door import ingest_folder
from replenish.ingest.settle import settle_events
from replenish.stores.doctor.delta_log import POINTER, list_log
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD, EVENT_UPSERT, DeadLetter, EventEntry
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.segments import seal

NOW = datetime(2025, 3, 1, tzinfo=UTC)
FILES = 6
SALES = replace(read_contracts()["sales"], max_dead_share=0.9)
FEED = Feed(
    feed_id="shop.sales",
    stream="sales",
    files=("sales*",),
    format=FileFormat(),
    zone="UTC",
    columns={
        "location_id": ColumnRule(column="shop"),
        "sold_at": ColumnRule(column="time"),
        "sale_id": ColumnRule(column="receipt"),
        "sku_id": ColumnRule(column="article"),
        "units": ColumnRule(column="qty"),
    },
    knowledge=KnowledgeRule("column", column="known"),
)


def open_world(root: Path) -> Deployment:
    """The deployment in a folder."""
    layout = RootLayout(root)
    dataset = Dataset("shop", "UTC", time(6), "demo", None, (FEED,))
    return Deployment(layout, dataset, {"sales": SALES}, DeltaLake(layout.lake))


def build_world(root: Path) -> Deployment:
    """Files ingested one after the other, bronze and silver brought up to date behind each, a checkpoint in between."""
    deployment = open_world(root)
    layout, dataset = deployment.layout, deployment.dataset
    layout.drop.mkdir(parents=True)
    for number in range(FILES):
        (layout.drop / f"sales-{number}.csv").write_text(_file(number))
        ingest_folder(layout.drop, dataset, deployment.contracts, deployment.journal, layout, now=NOW)
        append_bronze("sales", SALES, deployment.journal, layout, deployment.lake)
        update_silver(SALES, dataset, deployment.lake)
        if number == FILES - 3:
            for table in ("bronze/sales", "silver/sales"):
                DeltaTable(str(layout.lake / table)).create_checkpoint()
    settle_events(dataset, deployment.contracts, _with_events(deployment), layout, now=NOW)
    append_bronze("sales", SALES, deployment.journal, layout, deployment.lake)
    update_silver(SALES, dataset, deployment.lake)
    seal(deployment.journal, layout, min_records=1, max_records=20)
    return deployment


def _with_events(deployment: Deployment) -> Journal:
    """The journal after some single events, one of them dead."""
    journal = deployment.journal
    bodies = [
        {
            "location_id": "S1",
            "sku_id": f"A{nr % 3}",
            "sold_at": f"2025-01-20T10:{nr:02}:00Z",
            "sale_id": f"E{nr}",
            "units": nr,
            "knowledge_time": "2025-01-20T22:00:00Z",
        }
        for nr in range(30)
    ]
    version = f"sales@{SALES.version}"
    entries = [
        EventEntry("till", f"e{nr}", EVENT_UPSERT, "events.sales", version, json.dumps(body).encode())
        for nr, body in enumerate(bodies)
    ]
    letter = DeadLetter("events.sales", "till", None, "missing_field", "units", "units is required", "{}")
    entries.append(EventEntry("till", "bad#1", EVENT_DEAD, "events.sales", version, b"{}", letter=letter))
    journal.append_events(entries, now=NOW)
    return journal


def _file(number: int) -> str:
    """Forty lines of one day, some of them corrections of the day before, one that is dead."""
    lines = ["shop,time,receipt,article,qty,known"]
    for nr in range(40):
        day = f"2025-01-{number + 1:02}T10:{nr:02}:00Z"
        lines.append(f"S{nr % 3},{day},R{number}-{nr},A{nr % 7},{nr % 5},{_known(number)}")
    if number:
        for nr in range(5):
            day = f"2025-01-{number:02}T10:{nr:02}:00Z"
            lines.append(f"S{nr % 3},{day},R{number - 1}-{nr},A{nr % 7},{nr % 5 + 10},{_known(number)}")
    lines.append(f"S1,2025-01-{number + 1:02}T11:00:00Z,R{number}-x,A1,many,{_known(number)}")
    return "\n".join(lines) + "\n"


def _known(number: int) -> str:
    return f"2025-01-{number + 1:02}T22:00:00Z"


def digests(deployment: Deployment) -> dict[str, str]:
    """Digest of bronze and silver."""
    return {table: table_digest(deployment.lake.read(table), []) for table in ("bronze/sales", "silver/sales")}


def files_below(root: Path) -> set[int]:
    """Inodes of all files: what was there before mending has to be there after it, under whatever name."""
    return {path.stat().st_ino for path in root.rglob("*") if path.is_file()}


def newest_commit(folder: Path) -> Path:
    log = list_log(folder)
    return log.commits[max(log.commits)]


def newest_checkpoint(folder: Path) -> Path:
    log = list_log(folder)
    return log.checkpoints[max(log.checkpoints)][0]


def a_data_file(folder: Path) -> Path:
    """The biggest file the newest version needs."""
    active = pl.DataFrame(DeltaTable(str(folder)).get_add_actions(flatten=True)).sort("size_bytes", "path")
    return folder / active["path"][-1]


def flip_bit(path: Path, at: float = 0.5) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x10
    path.write_bytes(content)


def _truncate(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"add":{"path"\x00\xffgarbage')


def _gap(folder: Path) -> None:
    log = list_log(folder)
    log.commits[max(log.commits) - 1].unlink()


def _dangling_pointer(folder: Path) -> None:
    (folder / "_delta_log" / POINTER).write_text('{"version":999,"size":5}')


def _lose_newest(folder: Path) -> None:
    newest_commit(folder).unlink()


LAKE_DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "newest commit empty": ("empty_commit", lambda t: _truncate(newest_commit(t), 0)),
    "newest commit torn": ("torn_commit", lambda t: _truncate(newest_commit(t), 0.6)),
    "newest commit zero bytes": ("torn_commit", lambda t: _zero(newest_commit(t))),
    "newest commit with garbage behind": ("torn_commit", lambda t: _grow(newest_commit(t))),
    "newest commit gone": ("lost_commits", _lose_newest),
    "a commit missing in the middle": ("commit_gap", _gap),
    "checkpoint truncated": ("bad_checkpoint", lambda t: _truncate(newest_checkpoint(t), 0.5)),
    "checkpoint zero": ("bad_checkpoint", lambda t: _truncate(newest_checkpoint(t), 0)),
    "pointer to a missing checkpoint": ("bad_pointer", _dangling_pointer),
    "data file missing": ("missing_file", lambda t: a_data_file(t).unlink()),
    "data file truncated": ("wrong_size", lambda t: _truncate(a_data_file(t), 0.7)),
    "one bit of a data file flipped": ("altered_file", lambda t: flip_bit(a_data_file(t))),
}
"""The twelve kinds for a table: what the doctor calls it, and how it is done."""


def _one_row(root: Path, statement: str) -> None:
    """Change the journal as nobody may: past its own code, and leave one file without a WAL."""
    connection = apsw.Connection(str(root / "journal.sqlite"))
    connection.execute("pragma foreign_keys=off")
    connection.execute(statement)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


def _flip_in_journal(root: Path) -> None:
    """One bit in the body of each file's record, found by what it says; stale copies in free space flip along."""
    _one_row(root, "select 1")
    path = root / "journal.sqlite"
    path.write_bytes(path.read_bytes().replace(b'"offered":4', b'"offesed":4'))


def _overwrite_pages(root: Path) -> None:
    """Noise over the third quarter of the journal's pages."""
    _one_row(root, "select 1")
    path = root / "journal.sqlite"
    content = bytearray(path.read_bytes())
    start, stop = len(content) // 8192 * 4096, len(content) * 3 // 16384 * 4096
    content[start:stop] = b"\xa5" * (stop - start)
    path.write_bytes(content)


JOURNAL_DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "journal gone": ("journal_missing", lambda root: (root / "journal.sqlite").unlink()),
    "journal cut off": ("journal_unreadable", lambda root: _truncate(root / "journal.sqlite", 0.5)),
    "header of the journal overwritten": (
        "journal_unreadable",
        lambda root: (root / "journal.sqlite").write_bytes(b"\0" * 100 + (root / "journal.sqlite").read_bytes()[100:]),
    ),
    "a record of the journal altered": (
        "journal_chain",
        lambda root: _one_row(root, "update records set subject = 'x' where seq = 3"),
    ),
    "a dead letter altered": (
        "journal_chain",
        lambda root: _one_row(root, "update dead_letters set raw = '' where nr = 2"),
    ),
    "a record deleted": ("journal_gap", lambda root: _one_row(root, "delete from records where seq = 2")),
    "pages of the journal overwritten": ("journal_pages", _overwrite_pages),
    "a bit flipped in the journal": ("journal_chain", _flip_in_journal),
    "an older epoch behind a newer": (
        "journal_epoch",
        lambda root: _one_row(root, "update records set epoch = 2 where seq = 2"),
    ),
    "an identity gone": (
        "journal_identities",
        lambda root: _one_row(root, "delete from identities where seq = 3"),
    ),
    "an identity that leads elsewhere": (
        "journal_identities",
        lambda root: _one_row(root, "update identities set seq = 2 where seq = 3"),
    ),
}
"""Damage of the journal; a standby has every entry."""
