"""The one checker: what must hold of a root after any fault, whatever injected it. Each breach is one line of text.

It reads journal and lake through the product's readers, record by record and row by row, and never writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import polars as pl

from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts
from replenish.digests import table_digest
from replenish.errors import ReplenishError
from replenish.history.bronze import BRONZE_APP, bronze_table
from replenish.history.silver import silver_table
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD, FILE_ACCEPTED, FILE_DEAD, PART_BEARING
from replenish.stores.journal_reader import JournalReader
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.segments import log_entries, read_segment, sealed_segments
from tests.faults.oracle import Ack, read_acks
from tests.faults.world import SOURCE, STREAM, Key, World

Breaches = Iterator[str]
_RECORD_FIELDS = ("seq", "source", "id", "type", "subject", "dataschema", "data")


@dataclass
class LogView:
    """The records and letters of a journal, and where it lies."""

    layout: RootLayout
    records: list[dict[str, Any]]
    letters: list[dict[str, Any]]

    @classmethod
    def of(cls, root: Path) -> LogView:
        layout = RootLayout(root)
        if not layout.journal.exists():
            return cls(layout, [], [])
        reader = JournalReader(layout.journal)
        try:
            rows = reader.rows()
            records = [{name: getattr(row, name) for name in _RECORD_FIELDS} for row in rows]
            letters = [{"seq": d.seq, "id": d.file, "status": d.status} for d in reader.dead_letters()]
        except apsw.SQLError:
            # Killed before the first transaction: a file without tables is an empty log.
            return cls(layout, [], [])
        finally:
            reader.close()
        for record in records:
            is_event = record["type"].startswith("replenish.event.")
            record["data"] = {} if is_event or not record["data"] else json.loads(record["data"])
        return cls(layout, records, letters)

    def part_bearing(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] in PART_BEARING]


def log_breaches(root: Path, acks: list[Ack]) -> list[str]:
    """What must hold of the log at any moment, also right after a crash: I1, I2, I4, I6, I7, I8."""
    log = LogView.of(root)
    checks: tuple[Callable[[LogView], Breaches], ...] = (
        _contiguous,
        _chained,
        _counted,
        _lettered,
        _complete,
        _sealed,
        _settled,
    )
    found = list(_acked_is_kept(log, acks))
    for check in checks:
        found += check(log)
    return found


def lake_breaches(root: Path) -> list[str]:
    """What must hold of the lake at any moment: I3 (bronze an exact prefix of the log), I5."""
    layout, contracts = RootLayout(root), read_contracts()
    lake = DeltaLake(layout.lake)
    found = list(_readable(lake))
    return found or list(_prefix(LogView.of(root), lake, contracts[STREAM]))


def final_breaches(root: Path, oracle: Path, world: World, twin: dict[str, str], truth: dict[Key, int]) -> list[str]:
    """Everything, once a completing run has ended: also I3 of silver, and equality with an unharmed twin."""
    acks = read_acks(oracle)
    found = log_breaches(root, acks) + lake_breaches(root)
    if found:
        return found
    lake, contract = DeltaLake(RootLayout(root).lake), read_contracts()[STREAM]
    log = LogView.of(root)
    last = max((r["seq"] for r in log.part_bearing()), default=0)
    if (lake.app_version(bronze_table(STREAM), BRONZE_APP) or 0) < last:
        found.append(f"I3 bronze stopped before record {last} although the run completed")
    found += _offered_is_judged(log, world)
    found += _silver_is_the_log(log, lake, contract)
    found += _silver_is_true(lake, truth)
    digests = lake_digests(root)
    found += [f"twin: {name} differs from that of an unharmed run" for name in twin if digests.get(name) != twin[name]]
    return found


def lake_digests(root: Path) -> dict[str, str]:
    """Digests of silver, gold and features: what two runs of one world must agree on, through whatever door and in
    however many pieces."""
    lake = DeltaLake(RootLayout(root).lake)
    tables = [name for name in lake.table_names() if name.startswith(("gold/", "features/"))]
    tables += [silver_table(STREAM)] if lake.has(silver_table(STREAM)) else []
    return {table: table_digest(lake.read(table), []) for table in tables}


def _acked_is_kept(log: LogView, acks: list[Ack]) -> Breaches:
    """I1: what a client was told is in the log, at the place it was told, with the outcome it was told."""
    by_seq = {record["seq"]: record for record in log.records}
    for ack in acks:
        record = by_seq.get(ack.seq)
        if record is None:
            yield f"I1 acknowledged and lost: {ack.source} {ack.id} at {ack.seq}"
            continue
        dead = record["type"] in (FILE_DEAD, EVENT_DEAD)
        # A dead record's id is the event's with a digest behind it, a dead file's with that of the rules.
        is_same = record["id"] == ack.id or (dead and record["id"].startswith(ack.id))
        if record["source"] != ack.source or not is_same:
            yield f"I1 another record stands where {ack.source} {ack.id} was acknowledged: {ack.seq} {record['id']}"
        elif ack.outcome in ("accepted", "dead") and dead != (ack.outcome == "dead"):
            yield f"I1 {ack.source} {ack.id} was told {ack.outcome}, the log says {record['type']}"
        elif ack.counts and ack.counts != {name: record["data"][name] for name in ack.counts}:
            yield f"I4 {ack.id} was told {ack.counts}, the log says otherwise"


def _contiguous(log: LogView) -> Breaches:
    """I2: places 1, 2, 3 ... without a gap, and no identity twice."""
    for expected, record in enumerate(log.records, start=1):
        if record["seq"] != expected:
            yield f"I2 place {expected} of the log is missing; next is {record['seq']}"
            return
    identities = Counter((record["source"], record["id"]) for record in log.records)
    yield from (f"I2 {identity} is in the log {n} times" for identity, n in identities.items() if n > 1)


def _chained(log: LogView) -> Breaches:
    """I2: the hash chain holds."""
    if not log.records:
        return
    journal = Journal(log.layout.journal)
    try:
        journal.verify_chain()
    except ReplenishError as error:
        yield f"I2 {error}"
    finally:
        journal.close()


def _counted(log: LogView) -> Breaches:
    """I4: offered = accepted + dead + duplicate, for every file and every settled batch."""
    for record in log.records:
        data = record["data"]
        if "offered" in data and data["offered"] != data["accepted"] + data["dead"] + data["duplicate"]:
            yield f"I4 record {record['seq']}: offered is not accepted + dead + duplicate: {data}"
        rows = sum(part["rows"] for part in _accepted_parts(record))
        if "offered" in data and rows != data["accepted"] + data.get("revived", 0):
            yield f"I4 record {record['seq']}: its parts hold {rows} rows, not those accepted and revived: {data}"


def _accepted_parts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts that the lake takes in; those with kept rows are remembered for what may come late."""
    return [part for part in record["data"].get("parts", []) if "kept_until" not in part]


def _offered_is_judged(log: LogView, world: World) -> Breaches:
    """I4: every event that was offered is accepted or dead in the log, once, and nothing else is."""
    events = [record for record in log.records if record["source"] == SOURCE]
    if not events:
        return
    accepted = Counter(record["id"] for record in events if record["type"] != EVENT_DEAD)
    dead = Counter(record["id"].rpartition("#")[0] for record in events if record["type"] == EVENT_DEAD)
    wanted = {delivery.id for delivery in world.deliveries if delivery.is_sound}
    wanted |= {letter["id"] for letter in log.letters if letter["status"] == "redriven"}
    unsound = {delivery.id for delivery in world.deliveries if not delivery.is_sound}
    for what, found, expected in (("accepted", accepted, wanted), ("dead", dead, unsound)):
        if found != Counter(expected):
            odd = sorted({*found, *expected} - {id_ for id_ in expected if found[id_] == 1})
            yield f"I4 {len(odd)} events are not {what} exactly once as they should: {odd[:3]}"


def _lettered(log: LogView) -> Breaches:
    """I6: dead letters came with their record, as many as it counts, none alone."""
    letters = Counter(letter["seq"] for letter in log.letters)
    for record in log.records:
        n = letters.pop(record["seq"], 0)
        if record["type"] == FILE_ACCEPTED and n != record["data"]["dead"]:
            yield f"I6 record {record['seq']} counts {record['data']['dead']} dead rows, {n} letters are there"
        if record["type"] in (EVENT_DEAD, FILE_DEAD) and not n:
            yield f"I6 record {record['seq']} is dead and has no letter"
    yield from (f"I6 a letter names record {seq}, which is not there" for seq in letters)


def _complete(log: LogView) -> Breaches:
    """I7: every archived file and part that a record names is there, whole."""
    for record in log.records:
        data = record["data"]
        if archived := data.get("archive"):
            path = log.layout.archive / archived
            if not path.is_file() or path.stat().st_size != data["size_bytes"]:
                yield f"I7 record {record['seq']}: its archived file is missing or cut: {archived}"
        for part in data.get("parts", []):
            try:
                rows = pl.scan_parquet(log.layout.accepted / part["path"]).select(pl.len()).collect().item()
            except (OSError, pl.exceptions.PolarsError) as fault:
                yield f"I7 record {record['seq']}: part {part['path']} cannot be read: {type(fault).__name__}"
                continue
            if rows != part["rows"]:
                yield f"I7 record {record['seq']}: part {part['path']} holds {rows} rows, not {part['rows']}"


def _sealed(log: LogView) -> Breaches:
    """I7: every sealed segment is whole, and the body of every record is in the journal or in one of them."""
    if not log.records:
        return
    journal = Journal(log.layout.journal)
    try:
        for segment in sealed_segments(log.layout.segments):
            for _ in read_segment(segment):
                pass
        for entry in log_entries(journal, log.layout):
            if entry.row.data is None:
                yield f"I7 the body of record {entry.row.seq} is neither in the journal nor in a segment"
    except ReplenishError as error:
        yield f"I7 {error}"
    finally:
        journal.close()


def _settled(log: LogView) -> Breaches:
    """I8: settled batches of a feed follow one another, overlap nowhere, and settle only what stands before them."""
    reached: dict[str, int] = {}
    for record in log.records:
        if record["type"] not in PART_BEARING or record["type"] == FILE_ACCEPTED:
            continue
        data, feed = record["data"], record["data"]["feed"]
        if data["from_seq"] <= reached.get(feed, 0):
            yield f"I8 record {record['seq']} settles {feed} from {data['from_seq']} again"
        if data["to_seq"] >= record["seq"]:
            yield f"I8 record {record['seq']} settles events behind itself"
        events = sum(
            data["from_seq"] <= r["seq"] <= data["to_seq"]
            and r["subject"] == feed
            and r["type"] in ("replenish.event.upsert", "replenish.event.delete")
            for r in log.records
        )
        if events != data["offered"]:
            yield f"I8 record {record['seq']} counts {data['offered']} events, the log holds {events} there"
        reached[feed] = data["to_seq"]


def _readable(lake: DeltaLake) -> Breaches:
    """I5: every table can be opened and read whole."""
    for folder in sorted(lake.root.rglob("_delta_log")):
        table = folder.parent.relative_to(lake.root).as_posix()
        try:
            if lake.has(table):
                lake.read(table)
        except Exception as fault:  # whatever a reader raises, the table is not readable
            yield f"I5 table {table} cannot be read: {type(fault).__name__}: {str(fault)[:200]}"


def _prefix(log: LogView, lake: DeltaLake, contract: Contract) -> Breaches:
    """I3: bronze holds the part-bearing records up to its own position, each row once, and nothing else."""
    table = bronze_table(contract.stream)
    if not lake.has(table):
        return
    position = lake.app_version(table, BRONZE_APP) or 0
    rows = lake.read(table, columns=["journal_seq", "row_nr"])
    expected = {
        record["seq"]: sum(part["rows"] for part in _accepted_parts(record))
        for record in log.part_bearing()
        if record["seq"] <= position and record["dataschema"].partition("@")[0] == contract.stream
    }
    found = dict(rows.group_by("journal_seq").len().iter_rows())
    for seq in sorted({*expected, *found}):
        if expected.get(seq, 0) != found.get(seq, 0):
            yield f"I3 bronze holds {found.get(seq, 0)} rows of record {seq}, the log {expected.get(seq, 0)}"


def _silver_is_the_log(log: LogView, lake: DeltaLake, contract: Contract) -> Breaches:
    """I3: distinct facts of silver = distinct facts of the log; no posting twice."""
    key = list(contract.fact_key)
    paths = [log.layout.accepted / part["path"] for r in log.part_bearing() for part in _accepted_parts(r)]
    if not lake.has(silver_table(contract.stream)):
        yield "I3 there is no silver table although the run completed"
        return
    silver = lake.read(silver_table(contract.stream))
    in_log = pl.concat([pl.read_parquet(path, columns=key) for path in paths]).unique() if paths else silver.clear()
    in_silver = silver.select(key).unique()
    if lost := in_log.join(in_silver, on=key, how="anti").height:
        yield f"I3 {lost} facts of the log are not in silver"
    if invented := in_silver.join(in_log, on=key, how="anti").height:
        yield f"I3 {invented} facts of silver are not in the log"
    if twice := silver.height - silver.select(*key, "version_nr", "posting_kind").unique().height:
        yield f"I3 {twice} postings of silver are there twice"


def _silver_is_true(lake: DeltaLake, truth: dict[Key, int]) -> Breaches:
    """Silver says of every fact what the world's own bookkeeping says: nothing lost, doubled or invented.

    A fact that was taken back may be there with 0 units or, where no door ever saw it, not at all.
    """
    silver = lake.read(silver_table(STREAM))
    net = silver.group_by("location_id", "sold_at", "sale_id").agg((pl.col("units") * pl.col("posting_sign")).sum())
    found = {(place, sold.isoformat(), sale): units for place, sold, sale, units in net.iter_rows()}
    wrong = [key for key in {*truth, *found} if truth.get(key, 0) != found.get(key, 0)]
    if wrong:
        key = min(wrong)
        yield f"truth: {len(wrong)} facts are wrong in silver; {key}: {found.get(key)} instead of {truth.get(key)}"
