"""One visit of the doctor: journal, segments, archive, accepted parts, lake, in the order in which one feeds the next.

What is made from something damaged cannot be judged before that is mended, so a damaged journal that is not restored
ends the visit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from replenish.cli.deployment import Deployment
from replenish.cli.mend_lake import BuildGold, LakeMender, examine_lake
from replenish.cli.mend_log import mend_journal, mend_parts, mend_segments
from replenish.errors import DamagedLog
from replenish.ingest.part_checks import check_parts
from replenish.stores.doctor.archive_files import check_archive, mend_archive
from replenish.stores.doctor.file_digests import FOLDER
from replenish.stores.doctor.findings import IS_UNSAFE_TO_START, Finding, Treatment
from replenish.stores.doctor.journal_file import check_behind, check_journal_file
from replenish.stores.doctor.lake_checks import lake_tables
from replenish.stores.doctor.quarantine import FINISHED_FILE, Quarantine, moved_from, unfinished_visits
from replenish.stores.doctor.segment_files import check_segments
from replenish.stores.durable import fsync_path
from replenish.stores.failpoints import failpoint
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, PART_BEARING, JournalRecord
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold

Depth = Literal["quick", "full", "deep"]
"""quick: sizes and logs, for a start. full: every byte. deep: also silver made again and compared."""
DeepLook = Callable[[Deployment], list[Finding]]
WAIT_SECONDS = 30.0
REPORT_FILE = "doctor.json"


@dataclass(frozen=True)
class DoctorReport:
    """What one visit found and did."""

    at: datetime
    depth: Depth
    is_repairing: bool
    treatments: tuple[Treatment, ...] = ()
    n_tables: int = 0
    quarantine: str | None = None
    """Folder of what was set aside; None where nothing was."""

    @property
    def needs_person(self) -> int:
        """Findings that were not mended."""
        return sum(not treatment.is_mended for treatment in self.treatments)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 all mended, 2 a person is needed."""
        return 2 if self.needs_person else 1 if self.treatments else 0

    def as_json(self) -> dict[str, object]:
        """As one JSON object."""
        return {
            "at": self.at.isoformat(),
            "depth": self.depth,
            "repair": self.is_repairing,
            "exit_code": self.exit_code,
            "needs_person": self.needs_person,
            "tables": self.n_tables,
            "quarantine": self.quarantine,
            "findings": [treatment.as_json() for treatment in self.treatments],
        }


@dataclass(frozen=True)
class DoctorTools:
    """What a visit may use: `build_gold` makes gold from silver, `deep_look` compares with a lake made again."""

    build_gold: BuildGold
    deep_look: DeepLook | None = None
    helpers: tuple[Path, ...] = ()
    """Roots of standbys to take lost files and entries from."""
    warnings: list[str] = field(default_factory=list)


def pay_visit(
    deployment: Deployment, tools: DoctorTools, *, depth: Depth, is_repairing: bool, now: datetime
) -> DoctorReport:
    """Look at everything, mend what can be mended (where asked to), keep the report under `reports/`.

    Raises:
        AlreadyRunning: Mending waits for the lock of ingestion, and another process kept it.
    """
    layout = deployment.layout
    quarantine = Quarantine(layout.root, layout.quarantine, now.strftime("%Y%m%dT%H%M%S.%f"))
    if is_repairing:
        with hold(layout.locks / "ingest.lock", "doctor", wait_seconds=WAIT_SECONDS):
            treatments = _treat_all(deployment, tools, depth, quarantine)
        failpoint("doctor.repaired")
    else:
        treatments = [Treatment(f, False, "nothing", "run `replenish doctor`") for f in _look(deployment, tools, depth)]
    moved = str(quarantine.folder) if quarantine.moved else None
    n_tables = len(lake_tables(layout.lake))
    report = DoctorReport(now, depth, is_repairing, tuple(treatments), n_tables, moved)
    _keep(report, layout.reports / REPORT_FILE)
    if is_repairing and not report.needs_person:
        for visit in unfinished_visits(layout.quarantine):
            _keep(report, visit / FINISHED_FILE)
    return report


def last_report(layout: RootLayout) -> dict[str, object] | None:
    """The report of the last visit; None where there was none, or it cannot be read."""
    try:
        return dict(json.loads((layout.reports / REPORT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_sound_journal(layout: RootLayout) -> None:
    """The look before anything may be acknowledged.

    Raises:
        DamagedLog: The journal is damaged; says how and what to do.
    """
    findings = check_journal_file(layout.journal, is_expected=_had_journal(layout), is_thorough=False)
    bad = [finding for finding in findings if finding.kind in IS_UNSAFE_TO_START]
    if bad:
        raise DamagedLog(
            f"{bad[0].meaning} ({bad[0].detail}); nothing was changed and nothing is accepted: run `replenish doctor`",
            path=layout.journal,
        )


def _had_journal(layout: RootLayout) -> bool:
    """Whether anything shows that entries were written here."""
    folders = (layout.segments, layout.lake / "bronze", layout.archive)
    return any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def _look(deployment: Deployment, tools: DoctorTools, depth: Depth) -> list[Finding]:
    """Findings of everything that can be judged, nothing changed."""
    layout, is_full = deployment.layout, depth != "quick"
    findings = check_journal_file(layout.journal, is_expected=_had_journal(layout), is_thorough=is_full)
    if findings:
        return findings
    if layout.journal.is_file():
        findings += check_segments(layout, deployment.journal, with_digests=is_full)
        files, bearers = _file_records(deployment), _part_records(deployment)
        findings += check_archive(files, layout.archive, with_digests=is_full)
        findings += check_parts(bearers, layout.accepted, with_digests=is_full)
    findings += examine_lake(deployment, with_digests=is_full, with_rows=is_full and layout.journal.is_file())
    findings += [finding for finding in _left_undone(layout) if finding.subject not in _subjects(findings)]
    if depth == "deep" and not findings and tools.deep_look is not None:
        findings += tools.deep_look(deployment)
    return findings


def _treat_all(deployment: Deployment, tools: DoctorTools, depth: Depth, quarantine: Quarantine) -> list[Treatment]:
    layout, is_full = deployment.layout, depth != "quick"
    found = check_journal_file(layout.journal, is_expected=_had_journal(layout), is_thorough=is_full)
    found = found or check_behind(layout.journal, [RootLayout(root).journal for root in tools.helpers])
    done = mend_journal(found, layout, tools.helpers, quarantine) if found else []
    if found and check_journal_file(layout.journal, is_expected=True, is_thorough=is_full):
        # Nothing that is made from it can be judged before it is whole.
        return done
    if layout.journal.is_file():
        faults = check_segments(layout, deployment.journal, with_digests=is_full)
        done += mend_segments(faults, deployment, tools.helpers, quarantine)
        faults = check_archive(_file_records(deployment), layout.archive, with_digests=is_full)
        sources = [layout.drop, *(RootLayout(root).archive for root in tools.helpers)]
        done += mend_archive(faults, layout.archive, sources, quarantine)
        parts = check_parts(_part_records(deployment), layout.accepted, with_digests=is_full)
        done += mend_parts(parts, deployment, quarantine)
    return done + _treat_lake(deployment, tools, depth, quarantine)


def _treat_lake(deployment: Deployment, tools: DoctorTools, depth: Depth, quarantine: Quarantine) -> list[Treatment]:
    is_full = depth != "quick"
    has_log = deployment.layout.journal.is_file()
    mender = LakeMender(deployment, quarantine, tools.build_gold)
    findings = examine_lake(deployment, with_digests=is_full, with_rows=is_full and has_log)
    findings += [finding for finding in _left_undone(deployment.layout) if finding.subject not in _subjects(findings)]
    if depth == "deep" and not findings and tools.deep_look is not None:
        findings = tools.deep_look(deployment)
    return mender.mend(findings) if findings else []


def _left_undone(layout: RootLayout) -> list[Finding]:
    """Tables that an earlier visit set aside and that nobody has made again: it was cut short, or could not."""
    names = {name for visit in unfinished_visits(layout.quarantine) for name in moved_from(visit)}
    tables = sorted(name.removeprefix("lake/") for name in names if name.startswith("lake/"))
    gone = [table for table in tables if "_delta_log" not in table and FOLDER not in table]
    detail = "set aside by an earlier visit and not made again"
    return [
        Finding("unreadable_table", table, detail, "rebuild", layout.lake / table)
        for table in gone
        if not (layout.lake / table / "_delta_log").is_dir()
    ]


def _subjects(findings: list[Finding]) -> set[str]:
    return {finding.subject for finding in findings}


def _file_records(deployment: Deployment) -> list[JournalRecord]:
    return list(deployment.journal.records(type=(FILE_ACCEPTED, FILE_DEAD)))


def _part_records(deployment: Deployment) -> list[JournalRecord]:
    return list(deployment.journal.records(type=PART_BEARING))


def _keep(report: DoctorReport, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(report.as_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    fsync_path(draft)
    draft.replace(path)
    fsync_path(path.parent)
