"""All tables of a lake, checked one after the other, and what can be set aside within one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from replenish.stores.doctor.delta_files import check_files
from replenish.stores.doctor.delta_log import check_log, list_log
from replenish.stores.doctor.file_digests import (
    digests_file,
    forget_commits,
    record_as_found,
    recorded_files,
)
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.quarantine import Quarantine

COMMIT_KINDS = ("empty_commit", "torn_commit", "altered_commit")


@dataclass(frozen=True)
class TableCheck:
    """What one look at a table found. `version` is None where the table was not opened."""

    table: str
    findings: list[Finding]
    version: int | None = None
    n_files: int = 0


def lake_tables(lake: Path) -> list[str]:
    """Names of all Delta tables below the lake's folder, damaged ones too, sorted."""
    logs = lake.rglob("_delta_log") if lake.is_dir() else []
    names = [log.parent.relative_to(lake).as_posix() for log in logs if log.is_dir()]
    # A table whose folder is gone is still known by its recorded digests.
    folder = digests_file(lake, "x").parent
    known = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.jsonl")]
    return sorted({*names, *known})


def check_table(lake: Path, table: str, *, with_digests: bool = True, is_recording: bool = True) -> TableCheck:
    """Commit log first; data files only where the log is whole, since without it nobody knows which are needed.

    Args:
        lake: Folder of the lake.
        table: Name of the table.
        with_digests: Read every byte of every needed file; without, only sizes and the files nothing is known about.
        is_recording: Take sound files that nothing was recorded about as the base for later checks.
    """
    folder = lake / table
    recorded = recorded_files(lake, table)
    if not (folder / "_delta_log").is_dir():
        gone = Finding("unreadable_table", table, "its folder is gone", "rebuild", folder)
        return TableCheck(table, [gone] if recorded.newest_version is not None else [])
    findings = check_log(table, folder, recorded)
    if findings:
        return TableCheck(table, findings)
    files = check_files(table, folder, recorded, with_digests=with_digests)
    if is_recording and files.version is not None and not files.findings:
        log = list_log(folder)
        logged = [*log.commits.values(), *(path for paths in log.checkpoints.values() for path in paths)]
        fresh = [path for path in logged if f"_delta_log/{path.name}" not in recorded.digests]
        if fresh or files.unrecorded:
            record_as_found(lake, table, [*fresh, *files.unrecorded], files.version)
    return TableCheck(table, files.findings, files.version, files.n_files)


def set_aside(lake: Path, finding: Finding, quarantine: Quarantine) -> str:
    """Rename one damaged file of a commit log away; says what was done."""
    path = finding.path
    if path is None:
        return "nothing to set aside"
    quarantine.move(path, finding.meaning)
    if finding.kind in COMMIT_KINDS:
        version = int(path.name.partition(".")[0])
        if version > max(list_log(lake / finding.subject).checkpoints, default=-1):
            forget_commits(lake, finding.subject, version)
    return f"set aside {path.name}"


def drop_table(lake: Path, table: str, quarantine: Quarantine, reason: str) -> None:
    """Rename the whole table and its digests away, so that it can be made anew."""
    quarantine.move(lake / table, reason)
    quarantine.move(digests_file(lake, table), reason)
