"""Mending of the log: the journal from every copy of its entries, segments from the journal, parts from the archive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from replenish.cli.deployment import Deployment
from replenish.errors import AlreadyRunning, BrokenPromise, DamagedLog, ReplenishError
from replenish.ingest.accepted_parts import parts_of
from replenish.ingest.door import INGEST_LOCK
from replenish.ingest.rederive import have_rules_changed, is_as_recorded, rederive_parts
from replenish.ingest.settle import SETTLED_TYPES
from replenish.stores.doctor.findings import Finding, Treatment
from replenish.stores.doctor.journal_file import check_journal_file
from replenish.stores.doctor.journal_restore import RestoredJournal, restore_journal
from replenish.stores.doctor.journal_sources import JournalFileSource, SegmentSource
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.doctor.segment_files import manifest_of, span_of_name
from replenish.stores.durable import fsync_path
from replenish.stores.journal_entry import FILE_ACCEPTED, PART_BEARING, JournalRecord
from replenish.stores.journal_reader import EventBody
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from replenish.stores.segments import Segment, log_entries, read_segment, reseal, sealed_segments

RESTORING = "restoring"
"""Folder of the draft: in the root itself, a new journal beside sealed segments is refused."""
SIDES = ("", "-wal", "-shm")
NOTHING_READABLE = (
    "not one entry can be read, here or in any copy: is the disk mounted? name a standby with `replenish doctor --from "
    "FOLDER`; to begin a new log, move the root's files away by hand"
)
RESEND = "ask the senders to send these again: what is known already counts as duplicate"


def mend_journal(
    findings: list[Finding], layout: RootLayout, helpers: Sequence[Path], quarantine: Quarantine
) -> list[Treatment]:
    """Set the damaged journal aside and put one in its place that holds every entry of which a sound copy is left.

    Only while nobody writes: a process that has the file open would go on acknowledging into the one set aside.
    """
    try:
        with ExitStack() as writers:
            for path in _locks_of_writers(layout):
                writers.enter_context(hold(path, "restore the journal"))
            may_be_sound = all(finding.kind != "journal_behind" for finding in findings)
            if may_be_sound and not check_journal_file(layout.journal, is_expected=True, is_thorough=True):
                return [Treatment(finding, True, "nothing: it was whole at a second look") for finding in findings]
            return _restore(findings, layout, helpers, quarantine)
    except AlreadyRunning as running:
        return [
            Treatment(finding, False, "nothing", f"{running}: stop it, then run `replenish doctor` again")
            for finding in findings
        ]


def _locks_of_writers(layout: RootLayout) -> list[Path]:
    """Every lock but those of tables, and that of ingestion, which the doctor holds already."""
    known = {layout.locks / f"{name}.lock" for name in ("serve", "seal", "ship")}
    there = {path for path in layout.locks.glob("*.lock") if not path.name.startswith("lake-")}
    return sorted((known | there) - {layout.locks / INGEST_LOCK})


def _restore(
    findings: list[Finding], layout: RootLayout, helpers: Sequence[Path], quarantine: Quarantine
) -> list[Treatment]:
    folder = layout.root / RESTORING
    quarantine.move(folder, "an attempt to restore that was cut short")
    draft = folder / layout.journal.name
    files = [layout.journal, *(RootLayout(root).journal for root in helpers)]
    files += sorted(layout.quarantine.glob(f"*/{layout.journal.name}"), reverse=True)
    opened = [JournalFileSource(path) for path in files if path.is_file()]
    segments = [SegmentSource(root.segments) for root in (layout, *map(RootLayout, helpers))]
    restored = restore_journal(draft, [*opened, *segments], layout.journal)
    for source in opened:
        source.close()
    if not restored.n_entries:
        # Our own empty draft. An empty log in place of a lost one would make every table empty after it.
        shutil.rmtree(folder)
        return [Treatment(finding, False, "nothing", NOTHING_READABLE) for finding in findings]
    for side in SIDES:
        quarantine.move(layout.journal.with_name(layout.journal.name + side), findings[0].meaning)
    draft.replace(layout.journal)
    fsync_path(layout.root)
    quarantine.move(folder, "where the restored journal was drafted")
    done, advice = _account(restored)
    return [Treatment(finding, not advice, done, advice) for finding in findings]


def _account(restored: RestoredJournal) -> tuple[str, str]:
    """What was done, and what a person has to do; empty where nothing was lost."""
    taken = ", ".join(f"{count:,} from {name}" for name, count in restored.taken_from.items())
    done = f"set aside; {restored.n_entries:,} entries restored and verified ({taken or 'none'})"
    advice = []
    if restored.bodies_lost:
        advice.append(f"the content of entries {_spans(restored.bodies_lost)} is lost, their identities are kept")
    if restored.lost is not None:
        advice.append(f"entries {restored.lost[0]}-{restored.lost[1]} could not be recovered: {RESEND}")
    if restored.beyond is not None:
        first, last = restored.beyond
        advice.append(
            f"entries {first}-{last} are readable in the quarantined file but follow a hole; they are not in the new "
            "journal: restore from a standby with `replenish doctor --from FOLDER`, or have them sent again"
        )
    return done, "; ".join(advice)


def mend_segments(
    findings: list[Finding], deployment: Deployment, helpers: Sequence[Path], quarantine: Quarantine
) -> list[Treatment]:
    """Set damaged segments aside; take a standby's copy, or seal the same range anew where the journal has it whole."""
    return [_mend_segment(finding, deployment, helpers, quarantine) for finding in findings]


def _mend_segment(
    finding: Finding, deployment: Deployment, helpers: Sequence[Path], quarantine: Quarantine
) -> Treatment:
    layout, path = deployment.layout, finding.path
    span = finding.seqs or span_of_name(path)
    if path is None or span is None:
        return Treatment(finding, False, "nothing", "its range is unknown: see docs/runbooks/damage.md")
    if finding.kind == "segment_forked":
        # Both are sound, both were acknowledged: neither may make way for the other by itself.
        return Treatment(finding, False, "nothing", f"keep both copies of entries {span[0]}-{span[1]}; {RESEND}")
    if finding.kind == "segment_altered":
        for damaged in (path, manifest_of(path)):
            quarantine.move(damaged, finding.meaning)
    try:
        made = reseal(deployment.journal, layout, *span)
        return Treatment(finding, True, f"sealed again as {made.path.name}")
    except DamagedLog as fault:
        why = str(fault)
    name = f"{span[0]:012}-{span[1]:012}.jsonl.gz"
    for folder in (RootLayout(root).segments for root in helpers):
        copy = next((s for s in _readable_segments(folder) if s.path.name == name), None)
        if copy is not None:
            for source in (copy.path, manifest_of(copy.path)):
                shutil.copyfile(source, layout.segments / source.name)
                fsync_path(layout.segments / source.name)
            fsync_path(layout.segments)
            return Treatment(finding, True, f"copied {name} from a standby")
    advice = (
        f"the content of trimmed events among {span[0]}-{span[1]} is in no copy ({why}): name a standby with --from"
    )
    return Treatment(finding, False, "set aside", advice)


def _readable_segments(folder: Path) -> list[Segment]:
    segments, _ = try_to_read(lambda: sealed_segments(folder))
    return [s for s in segments or () if try_to_read(lambda s=s: sum(1 for _ in read_segment(s)))[0] == s.n]  # type: ignore[misc]


def mend_parts(findings: list[Finding], deployment: Deployment, quarantine: Quarantine) -> list[Treatment]:
    """Set damaged parts aside and derive those of the same records anew, in log order: later ones rest on earlier."""
    treatments = []
    seqs = sorted({finding.seqs[0] for finding in findings if finding.seqs is not None})
    for seq in seqs:
        of_record = [finding for finding in findings if finding.seqs == (seq, seq)]
        for finding in of_record:
            if finding.path is not None:
                quarantine.move(finding.path, finding.meaning)
        try:
            rederive_record(deployment, seq)
            done, advice = "made again from the archive or the events", ""
        except (ReplenishError, OSError) as fault:
            done = "set aside"
            advice = f"it could not be made again ({fault}); the tables still hold its rows, do not rebuild them yet"
        treatments += [Treatment(finding, not advice, done, advice) for finding in of_record]
    return treatments


def rederive_record(deployment: Deployment, seq: int) -> None:
    """Make the missing parts of one record again, checked against the digests in the log; sound ones stay.

    Raises:
        BrokenPromise: What came out is not what the record says: the rules changed since.
        DigestMismatch: The archived file is gone or damaged.
        DamagedLog: The bodies of its events are in no copy.
    """
    layout, journal = deployment.layout, deployment.journal
    record = next(journal.records(seq - 1, PART_BEARING, seq))
    scratch = layout.root / "scratch" / f"parts-{seq}"
    shutil.rmtree(scratch, ignore_errors=True)
    bodies = None if record.type == FILE_ACCEPTED else _bodies(record, deployment)
    try:
        made = rederive_parts(
            record, deployment.dataset, deployment.contracts, journal, layout, into=scratch, bodies=bodies,
            versions=deployment.versions,
        )  # fmt: skip
        if not is_as_recorded(record, made):
            changed = have_rules_changed(record, deployment.dataset, deployment.contracts, deployment.versions)
            why = "the feed or contract changed since" if changed else "other rows came out"
            raise BrokenPromise(f"parts cannot be made again: {why}", seq=seq, of=record.subject)
        for told, new in zip(parts_of(record), made, strict=True):
            target = layout.accepted / told.path
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                (scratch / new.path).replace(target)
                fsync_path(target)
                fsync_path(target.parent)
    finally:
        # Our own scratch copy, never data.
        shutil.rmtree(scratch, ignore_errors=True)


def _bodies(record: JournalRecord, deployment: Deployment) -> Iterator[EventBody]:
    """The events of a settled batch, trimmed ones from their segments."""
    first, last = int(str(record.data["from_seq"])), int(str(record.data["to_seq"]))
    for entry in log_entries(deployment.journal, deployment.layout, first - 1, last):
        row = entry.row
        if row.subject == record.subject and row.type in SETTLED_TYPES:
            yield EventBody(row.seq, row.source, row.id, row.type, row.subject, row.dataschema, row.time, row.data)


def _spans(seqs: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for seq in seqs:
        if spans and seq == spans[-1][1] + 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
