"""The archive of offered files against the log that names them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from replenish.digests import file_digest
from replenish.stores.archive import archive_file
from replenish.stores.doctor.findings import Finding, Treatment
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, JournalRecord

SUBJECT = "archive"


def check_archive(records: Iterable[JournalRecord], archive: Path, *, with_digests: bool) -> list[Finding]:
    """Every archived file that a file record names: there, of its size and, with digests, of its content."""
    findings: dict[str, Finding] = {}
    seen: set[str] = set()
    for record in records:
        name = str(record.data.get("archive") or "")
        if record.type not in (FILE_ACCEPTED, FILE_DEAD) or not name or name in seen:
            continue
        seen.add(name)
        fault = _fault(archive / name, record, with_digests)
        if fault is not None:
            kind, detail = fault
            seqs = (record.seq, record.seq) if record.seq is not None else None
            findings[name] = Finding(kind, SUBJECT, f"{record.subject}: {detail}", "person", archive / name, seqs)
    return list(findings.values())


def mend_archive(
    findings: list[Finding], archive: Path, sources: Iterable[Path], quarantine: Quarantine
) -> list[Treatment]:
    """Set altered files aside, and bring back every file of which a copy with the same content lies in `sources`.

    Args:
        findings: Of `check_archive`.
        archive: Folder of the archive.
        sources: Folders to look for copies in: the drop folder, a standby's archive.
        quarantine: Where altered files go.
    """
    copies: dict[str, Path] = {}
    if findings:
        files = (path for folder in sources if folder.is_dir() for path in folder.rglob("*") if path.is_file())
        wanted = {finding.path.name for finding in findings if finding.path is not None}
        copies = {digest: path for path in files if (digest := file_digest(path)) in wanted}
    return [_mend(finding, archive, copies, quarantine) for finding in findings]


def _mend(finding: Finding, archive: Path, copies: dict[str, Path], quarantine: Quarantine) -> Treatment:
    if finding.path is None:
        return Treatment(finding, False, "nothing")
    moved = quarantine.move(finding.path, finding.meaning)
    done = "set aside" if moved else "looked for a copy"
    copy = copies.get(finding.path.name)
    if copy is None:
        advice = (
            f"no copy with sha256 {finding.path.name} was found: ask the sender for the file again and put it into the "
            "drop folder, or name a standby with `replenish doctor --from FOLDER`; accepted rows and tables are whole"
        )
        return Treatment(finding, False, done, advice)
    archive_file(copy, finding.path.name, archive)
    return Treatment(finding, True, f"{done}, brought back from a copy in {copy.parent.name}")


def _fault(path: Path, record: JournalRecord, with_digests: bool) -> tuple[str, str] | None:
    if not path.is_file():
        return "archive_missing", f"no file {path.name[:16]}"
    size = record.data.get("size_bytes")
    if size is not None and path.stat().st_size != size:
        return "archive_altered", f"{path.stat().st_size} bytes instead of {size}"
    if with_digests and file_digest(path) != path.name:
        return "archive_altered", "its sha256 is not its name"
    return None
