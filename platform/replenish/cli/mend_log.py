"""Mending of the log: the journal from every copy of its entries, segments from the journal, parts from the archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replenish.cli.deployment import Deployment
from replenish.stores.doctor.findings import Finding, Treatment
from replenish.stores.doctor.journal_restore import RestoredJournal, restore_journal
from replenish.stores.doctor.journal_sources import JournalFileSource, LogSource
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.durable import fsync_path
from replenish.stores.layout import RootLayout

RESTORED = "journal.sqlite.restored"
SIDES = ("", "-wal", "-shm")
RESEND = "ask the senders to send these again: what is known already counts as duplicate"


def mend_journal(
    findings: list[Finding], layout: RootLayout, helpers: Sequence[Path], quarantine: Quarantine
) -> list[Treatment]:
    """Set the damaged journal aside and put one in its place that holds every entry of which a sound copy is left."""
    draft = layout.root / RESTORED
    for side in SIDES:
        quarantine.move(draft.with_name(draft.name + side), "an attempt to restore that was cut short")
    files = [layout.journal, *(RootLayout(root).journal for root in helpers)]
    files += sorted(layout.quarantine.glob(f"*/{layout.journal.name}*"), reverse=True)
    opened = [JournalFileSource(path) for path in files if path.is_file() and not path.name.endswith(SIDES[1:])]
    sources: list[LogSource] = [*opened]
    restored = restore_journal(draft, sources, layout.journal)
    for source in opened:
        source.close()
    for side in SIDES:
        quarantine.move(layout.journal.with_name(layout.journal.name + side), findings[0].meaning)
    for side in SIDES[1:]:
        # Empty: the restored file was checkpointed and closed.
        quarantine.move(draft.with_name(draft.name + side), "left by the restored journal")
    draft.replace(layout.journal)
    fsync_path(layout.root)
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


def mend_segments(findings: list[Finding], deployment: Deployment, quarantine: Quarantine) -> list[Treatment]:
    """Set damaged segments aside and seal the same range anew, where the journal still has the bodies."""
    return [Treatment(finding, False, "nothing", "see docs/runbooks/damage.md") for finding in findings]


def mend_parts(findings: list[Finding], deployment: Deployment, quarantine: Quarantine) -> list[Treatment]:
    """Set damaged parts aside and derive those of the same records anew."""
    return [Treatment(finding, False, "nothing", "see docs/runbooks/damage.md") for finding in findings]


def _spans(seqs: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for seq in seqs:
        if spans and seq == spans[-1][1] + 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
