"""The commit log of one Delta table, file by file: empty, torn or altered commits, gaps, bad checkpoints and pointers.

delta-rs reads a table without an emptied newest commit and says nothing, and refuses a table whose checkpoint is
damaged although every commit is there; so the files are looked at one by one, and before any reader is asked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from replenish.digests import file_digest
from replenish.stores.doctor.file_digests import RecordedFiles
from replenish.stores.doctor.findings import Finding, Remedy
from replenish.stores.doctor.reading import try_to_read

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10})|\.[0-9a-f-]{36})?\.parquet")
_ACTIONS = {"add", "remove", "metaData", "protocol", "txn", "commitInfo", "cdc", "domainMetadata"}
POINTER = "_last_checkpoint"


@dataclass(frozen=True)
class LogFiles:
    """Commits and checkpoints of one table by version; a checkpoint may have several files."""

    commits: dict[int, Path]
    checkpoints: dict[int, list[Path]]
    pointer: Path | None

    @property
    def newest(self) -> int:
        """Newest version that any file names; -1 where none does."""
        return max([*self.commits, *self.checkpoints], default=-1)


def list_log(folder: Path) -> LogFiles:
    """The files of `<folder>/_delta_log`; what bears another name is nobody's."""
    commits: dict[int, Path] = {}
    checkpoints: dict[int, list[Path]] = {}
    log = folder / "_delta_log"
    for path in sorted(log.iterdir()) if log.is_dir() else []:
        if match := _COMMIT.fullmatch(path.name):
            commits[int(match[1])] = path
        elif match := _CHECKPOINT.fullmatch(path.name):
            checkpoints.setdefault(int(match[1]), []).append(path)
    pointer = log / POINTER
    return LogFiles(commits, checkpoints, pointer if pointer.exists() else None)


def check_log(table: str, folder: Path, recorded: RecordedFiles) -> list[Finding]:
    """Everything wrong with the commit log; an empty list where a reader will see all that was committed."""
    log = list_log(folder)
    bad_checkpoints = [
        f for v, paths in sorted(log.checkpoints.items()) for f in _checkpoint(table, v, paths, recorded)
    ]
    bad_paths = {finding.path for finding in bad_checkpoints}
    good = [v for v, paths in log.checkpoints.items() if not bad_paths & set(paths)]
    findings = [*bad_checkpoints, *_pointer(table, log, good)]
    return findings + _commits(table, log, max(good, default=-1), recorded)


def _commits(table: str, log: LogFiles, covered: int, recorded: RecordedFiles) -> list[Finding]:
    """Findings about commits; those up to version `covered` are summed up in a sound checkpoint."""
    faults = {v: fault for v, path in sorted(log.commits.items()) if (fault := _commit_fault(path, recorded))}
    needed = [v for v in log.commits if v > covered]
    first_bad = min((v for v in faults if v > covered), default=None)
    # Bad commits at the very end can go: what is before them is whole. With a sound one behind, nothing is.
    is_tail = first_bad is not None and all(v in faults for v in needed if v >= first_bad)
    findings = []
    for version, (kind, detail) in faults.items():
        remedy: Remedy = "set_aside" if version <= covered or is_tail else "rebuild"
        findings.append(Finding(kind, table, f"version {version}: {detail}", remedy, log.commits[version]))
    first_needed = covered + 1
    expected = range(first_needed, max(needed, default=covered) + 1)
    missing = [v for v in expected if v not in log.commits]
    if missing:
        detail = f"versions {_spans(missing)} of {expected.start} to {expected.stop - 1} have no commit"
        findings.append(Finding("commit_gap", table, detail, "rebuild", None))
    if recorded.newest_version is not None and log.newest < recorded.newest_version:
        detail = f"version {recorded.newest_version} was on disk, the newest file is of version {log.newest}"
        findings.append(Finding("lost_commits", table, detail, "replay", None))
    return findings


def _commit_fault(path: Path, recorded: RecordedFiles) -> tuple[str, str] | None:
    content = path.read_bytes()
    if not content:
        return "empty_commit", "0 bytes"
    try:
        actions = [json.loads(line) for line in content.splitlines() if line.strip(b" \t\r\n")]
    except ValueError as fault:
        return "torn_commit", f"not JSON ({str(fault)[:80]})" if content.strip(b"\0") else "nothing but zero bytes"
    if not actions or not all(_is_action(action) for action in actions):
        return "torn_commit", "a line is no action of a Delta commit"
    known = recorded.digests.get(f"_delta_log/{path.name}")
    if known is not None and known != file_digest(path):
        return "altered_commit", "its bytes are not those that were recorded"
    return None


def _is_action(action: Any) -> bool:
    kinds = {
        "add",
        "remove",
        "metaData",
        "protocol",
        "txn",
        "commitInfo",
        "cdc",
        "domainMetadata",
        "checkpointMetadata",
    }
    return isinstance(action, dict) and len(action) == 1 and set(action) <= kinds | {"sidecar"}


def _checkpoint(table: str, version: int, paths: list[Path], recorded: RecordedFiles) -> list[Finding]:
    findings = []
    for path in paths:
        fault = _checkpoint_fault(path, recorded)
        if fault is not None:
            detail = f"checkpoint of version {version}: {fault}"
            findings.append(Finding("bad_checkpoint", table, detail, "set_aside", path))
    parts = [_CHECKPOINT.fullmatch(path.name) for path in paths]
    counts = {int(match[3]) for match in parts if match and match[3]}
    if counts and not findings and len(paths) < max(counts):
        detail = f"checkpoint of version {version} has {len(paths)} of {max(counts)} files"
        findings = [Finding("bad_checkpoint", table, detail, "set_aside", path) for path in paths]
    return findings


def _checkpoint_fault(path: Path, recorded: RecordedFiles) -> str | None:
    size = path.stat().st_size
    if size == 0:
        return "0 bytes"
    known = recorded.digests.get(f"_delta_log/{path.name}")
    if known is not None:
        return None if known == file_digest(path) else "its bytes are not those that were recorded"
    rows, fault = try_to_read(lambda: pl.read_parquet(path))
    if rows is None:
        return f"cannot be read ({fault})"
    return None if {"add", "metaData", "protocol"} <= set(rows.columns) else "is no checkpoint"


def _pointer(table: str, log: LogFiles, good: list[int]) -> list[Finding]:
    if log.pointer is None:
        return []
    try:
        version = int(json.loads(log.pointer.read_bytes())["version"])
    except (ValueError, TypeError, KeyError):
        return [Finding("bad_pointer", table, "it cannot be read", "set_aside", log.pointer)]
    if version in good:
        return []
    return [Finding("bad_pointer", table, f"it names version {version}", "set_aside", log.pointer)]


def _spans(versions: list[int]) -> str:
    """Versions as ranges: [1, 2, 3, 7] as `1-3, 7`."""
    spans: list[list[int]] = []
    for version in versions:
        if spans and version == spans[-1][1] + 1:
            spans[-1][1] = version
        else:
            spans.append([version, version])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
