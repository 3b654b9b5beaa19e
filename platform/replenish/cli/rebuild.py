"""`replenish rebuild`: every derived table anew from the log, and the proof that it is the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.rebuild_tables import (
    Progress,
    begin_plan,
    build_layers,
    derive_parts,
    digests_of_layers,
    drop_layers,
    finish_plan,
    offsets_of,
    read_plan,
)
from replenish.cli.stages import build_gold_tables
from replenish.cli.tables import open_console
from replenish.errors import BrokenPromise
from replenish.stores.locks import hold

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did. `differs`: tables whose digest is not what it was; tables behind the log may well differ."""

    minutes: float
    digests: dict[str, str]
    differs: tuple[str, ...]
    grown: tuple[str, ...]
    """Tables that were behind the log before, so that no comparison is possible."""
    quarantine: Path


def rebuild_root(
    deployment: Deployment, *, is_from_raw: bool, progress: Progress, is_comparing: bool = True
) -> RebuildReport:
    """Set bronze, silver and gold aside (and, from raw, the accepted parts), make them from the log, compare.

    Taken up where it stopped, if an earlier one was cut short.

    Raises:
        AlreadyRunning: Another process takes in events.
        DamagedLog: The log is damaged or gone: nothing was set aside, since nothing could be made from it.
    """
    started = time.monotonic()
    layout = deployment.layout
    require_sound_journal(layout)
    with hold(layout.locks / "ingest.lock", "rebuild", wait_seconds=WAIT_SECONDS):
        plan = read_plan(layout)
        if plan is None:
            progress("digests of the tables as they are")
            stamp = now_utc().strftime("%Y%m%dT%H%M%S")
            plan = begin_plan(deployment, stamp, is_from_raw=is_from_raw, is_comparing=is_comparing)
        quarantine = drop_layers(deployment, plan)
        # Also without `--from-raw`: a promoted standby has the log and no parts.
        derive_parts(deployment, progress)
        has_gold = not plan["tables"] or any(table.startswith("gold/") for table in plan["tables"])
        scratch = layout.root / "dbt"
        build_gold = (lambda: build_gold_tables(deployment.lake, scratch)) if has_gold else None
        build_layers(deployment, build_gold, progress)
        digests = digests_of_layers(deployment.lake, plan["tables"]) if plan["before"] else {}
        finish_plan(layout, quarantine)
    changed = [table for table, digest in plan["before"].items() if digests.get(table) != digest]
    offsets = offsets_of(deployment.lake, plan["tables"])
    grown = tuple(table for table in changed if _grew(plan["offsets"], offsets, table))
    differs = tuple(table for table in changed if table not in grown)
    return RebuildReport((time.monotonic() - started) / 60, digests, differs, grown, quarantine)


def rebuild_tables_from_log(
    from_raw: Annotated[bool, typer.Option("--from-raw", help="Derive the accepted rows anew as well.")] = False,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Set bronze, silver and gold aside and make them again from the log: journal, segments, archived files."""
    console = open_console()
    deployment = open_deployment(root or default_root())
    report = rebuild_root(deployment, is_from_raw=from_raw, progress=lambda text: console.print(f"  {text}"))
    console.print(f"rebuilt in {report.minutes:.1f} minutes; the old tables are in {report.quarantine}", soft_wrap=True)
    if report.grown:
        console.print(f"were behind the log and have caught up: {', '.join(report.grown)}", soft_wrap=True)
    if report.differs:
        raise BrokenPromise("tables are not what they were; run `replenish doctor --deep`", tables=report.differs)
    compared = f"[green]{len(report.digests)} tables, equal digests[/]"
    console.print(compared if report.digests else "there were no tables before to compare with")


def _grew(before: dict[str, int | None], after: dict[str, int | None], table: str) -> bool:
    """Whether the table took in more of the log than it had; gold, whether any table below it did."""
    names = [name for name in before if name == table or table.startswith("gold/")]
    return any((after[name] or 0) > (before[name] or 0) for name in names)
