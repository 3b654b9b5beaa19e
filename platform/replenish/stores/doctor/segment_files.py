"""Sealed segments: their bytes against their manifests, and the manifests against each other and the journal."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from replenish.digests import file_digest
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.journal_file import trimmed_spans
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout

SUBJECT = "segments"
MANIFEST = ".manifest.json"


def check_segments(layout: RootLayout, journal: JournalReader, *, with_digests: bool) -> list[Finding]:
    """Every segment that has a manifest: there, of the sealed bytes, one behind the other, on the journal's chain."""
    findings: list[Finding] = []
    manifests: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted(layout.segments.glob(f"*{MANIFEST}")) if layout.segments.is_dir() else []:
        manifest, fault = try_to_read(lambda path=path: _manifest(path))  # type: ignore[misc]
        if manifest is None:
            findings.append(_finding("segment_altered", segment_of(path), f"its manifest cannot be read ({fault})"))
            continue
        manifests.append((path, manifest))
    manifests.sort(key=lambda pair: int(pair[1]["first_seq"]))
    for path, manifest in manifests:
        kind, detail = _fault(segment_of(path), manifest, journal, with_digests)
        if kind:
            findings.append(_finding(kind, segment_of(path), detail, _span(manifest)))
    for (_, before), (path, after) in pairwise(manifests):
        if after["first_seq"] != before["last_seq"] + 1:
            gap = (int(before["last_seq"]) + 1, int(after["first_seq"]) - 1)
            detail = f"entries {gap[0]}-{gap[1]} were never sealed, or their segment is gone"
            findings.append(_finding("segment_missing", segment_of(path), detail, gap))
    held = [_span(manifest) for _, manifest in manifests]
    held += [span for finding in findings if (span := finding.seqs or span_of_name(finding.path)) is not None]
    for first, last in _not_covered(trimmed_spans(journal.path, is_thorough=with_digests), held):
        path = layout.segments / f"{first:012}-{last:012}.jsonl.gz"
        detail = f"the bodies of entries {first}-{last} were trimmed, and no segment holds them"
        findings.append(_finding("segment_missing", path, detail, (first, last)))
    return findings


def segment_of(manifest: Path) -> Path:
    """The segment a manifest belongs to."""
    return manifest.with_name(manifest.name.removesuffix(MANIFEST) + ".jsonl.gz")


def manifest_of(segment: Path) -> Path:
    """The manifest of a segment."""
    return segment.with_name(segment.name.removesuffix(".jsonl.gz") + MANIFEST)


def _manifest(path: Path) -> dict[str, Any]:
    manifest = dict(json.loads(path.read_text(encoding="utf-8")))
    for name in ("first_seq", "last_seq", "prev_chain", "head_chain", "sha256"):
        manifest[name]
    return manifest


def _fault(segment: Path, manifest: dict[str, Any], journal: JournalReader, with_digests: bool) -> tuple[str, str]:
    if not segment.is_file():
        return "segment_missing", f"{segment.name} is gone, its manifest is there"
    if with_digests and file_digest(segment) != manifest["sha256"]:
        return "segment_altered", f"{segment.name}: other sha256 than in its manifest"
    chain = journal.chain_at(int(manifest["last_seq"]))
    if chain is not None and chain.hex() != manifest["head_chain"]:
        kind = "segment_forked" if file_digest(segment) == manifest["sha256"] else "segment_altered"
        return kind, f"{segment.name} ends with another chain than the journal has there"
    return "", ""


def span_of_name(segment: Path | None) -> tuple[int, int] | None:
    """First and last place of a segment as its file name says; None where it says none."""
    first, _, last = segment.name.partition(".")[0].partition("-") if segment is not None else ("", "", "")
    return (int(first), int(last)) if first.isdigit() and last.isdigit() else None


def _not_covered(spans: list[tuple[int, int]], held: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `spans` that lie in none of `held`."""
    left = []
    for first, last in spans:
        for a, b in sorted(held):
            if a > first and a <= last:
                left.append((first, a - 1))
            if a <= last and b >= first:
                first = b + 1
        if first <= last:
            left.append((first, last))
    return left


def _span(manifest: dict[str, Any]) -> tuple[int, int]:
    return int(manifest["first_seq"]), int(manifest["last_seq"])


def _finding(kind: str, path: Path, detail: str, seqs: tuple[int, int] | None = None) -> Finding:
    return Finding(kind, SUBJECT, detail, "reseal", path, seqs)
