"""Bronze, silver and gold made anew from the log, layer by layer, and compared with what was there.

A rebuild is a plan kept on disk: which tables were set aside, with the digests they had. Killed at any place it is
taken up again: setting aside is a rename, and building goes on from each table's own offset.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from replenish.cli.deployment import Deployment
from replenish.cli.mend_log import rederive_record
from replenish.digests import table_digest
from replenish.history.bronze import BRONZE_APP, append_bronze, bronze_table
from replenish.history.silver import SILVER_APP, silver_table, update_silver
from replenish.ingest.accepted_parts import parts_of
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.lake_checks import drop_table, lake_tables
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.durable import fsync_path
from replenish.stores.failpoints import failpoint
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.lake import WAIT_FOR_WRITER_SECONDS, DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold

LAYERS = ("bronze", "silver", "gold")
PLAN_FILE = "rebuild.json"
Progress = Callable[[str], None]


def digests_of_layers(lake: DeltaLake, tables: list[str]) -> dict[str, str]:
    """Digest of each table that can be read, whatever the order of its rows and files."""
    found = {table: try_to_read(lambda table=table: table_digest(lake.read(table), []))[0] for table in tables}  # type: ignore[misc]
    return {table: digest for table, digest in found.items() if digest is not None}


def offsets_of(lake: DeltaLake, tables: list[str]) -> dict[str, int | None]:
    """How far each bronze and silver table has taken in the log; None for gold and what cannot be read."""
    return {table: try_to_read(lambda table=table: _offset(lake, table))[0] for table in tables}  # type: ignore[misc]


def derived_tables(layout: RootLayout) -> list[str]:
    """The tables that the log alone gives: bronze, silver, gold, sorted."""
    return [table for table in lake_tables(layout.lake) if table.split("/")[0] in LAYERS]


def read_plan(layout: RootLayout) -> dict[str, Any] | None:
    """The rebuild that was begun and not finished; None where there is none."""
    path = layout.root / PLAN_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def begin_plan(deployment: Deployment, stamp: str, *, is_from_raw: bool, is_comparing: bool) -> dict[str, Any]:
    """Write down what is to be set aside, and the digests before, durably; nothing is touched yet."""
    tables = derived_tables(deployment.layout)
    # Offsets first: a table that another process appends to meanwhile is then known to have grown.
    offsets = offsets_of(deployment.lake, tables)
    before = digests_of_layers(deployment.lake, tables) if is_comparing else {}
    plan = {"stamp": stamp, "tables": tables, "from_raw": is_from_raw, "before": before, "offsets": offsets}
    path = deployment.layout.root / PLAN_FILE
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(plan, sort_keys=True), encoding="utf-8")
    fsync_path(draft)
    draft.replace(path)
    fsync_path(path.parent)
    return plan


def drop_layers(deployment: Deployment, plan: dict[str, Any]) -> Path:
    """Rename every table of the plan into the quarantine, once; returns the folder."""
    layout = deployment.layout
    quarantine = Quarantine(layout.root, layout.quarantine, f"rebuild-{plan['stamp']}")
    for table in plan["tables"]:
        # A commit that is under way would land half here and half there.
        with hold(deployment.lake.lock_path(table), f"rebuild {table}", wait_seconds=WAIT_FOR_WRITER_SECONDS):
            if not (quarantine.folder / "lake" / table).exists():
                drop_table(layout.lake, table, quarantine, "rebuilt from the log")
    if plan["from_raw"] and not (quarantine.folder / "accepted").exists():
        quarantine.move(layout.accepted, "derived again from the log")
    failpoint("rebuild.dropped")
    return quarantine.folder


def derive_parts(deployment: Deployment, progress: Progress) -> int:
    """Accepted parts of every record anew, in log order; those that are there already are taken for done."""
    n_rows = 0
    for record in deployment.journal.records(type=PART_BEARING):
        parts = parts_of(record)
        if any(not (deployment.layout.accepted / part.path).is_file() for part in parts) and record.seq is not None:
            rederive_record(deployment, record.seq)
            progress(f"{record.subject}: {sum(part.rows for part in parts):,} rows derived again")
        n_rows += sum(part.rows for part in parts)
    failpoint("rebuild.layer_done")
    return n_rows


def build_layers(deployment: Deployment, build_gold: Callable[[], None] | None, progress: Progress) -> None:
    """Bronze and silver of every stream, then gold; goes on where an earlier attempt stopped."""
    journal, layout, lake = deployment.journal, deployment.layout, deployment.lake
    for stream, contract in deployment.contracts.items():
        commit = append_bronze(stream, contract, journal, layout, lake)
        progress(f"{commit.table}: {commit.n_rows:,} rows")
    failpoint("rebuild.layer_done")
    for contract in deployment.contracts.values():
        update = update_silver(contract, deployment.dataset, lake)
        progress(f"{update.commit.table}: {update.commit.n_rows:,} rows")
    failpoint("rebuild.layer_done")
    if build_gold is not None:
        build_gold()
        progress("gold")
        failpoint("rebuild.layer_done")


def finish_plan(layout: RootLayout, quarantine: Path) -> None:
    """The rebuild is over: its plan goes to what was set aside."""
    quarantine.mkdir(parents=True, exist_ok=True)
    (layout.root / PLAN_FILE).replace(quarantine / PLAN_FILE)
    fsync_path(layout.root)


def compare_with_the_log(deployment: Deployment, scratch: Path) -> list[Finding]:
    """Make bronze and silver again under `scratch` and compare with the lake's; a table behind the log is left out."""
    beside = replace(deployment, lake=DeltaLake(scratch / "lake"))
    build_layers(beside, None, lambda _: None)
    findings = []
    for stream in deployment.contracts:
        for table, kind in ((bronze_table(stream), "content_differs"), (silver_table(stream), "ledger_differs")):
            live, again = deployment.lake, beside.lake
            if not live.has(table) or _offset(live, table) != _offset(again, table):
                continue
            digests = [table_digest(lake.read(table), []) for lake in (live, again)]
            if digests[0] != digests[1]:
                detail = f"digest {digests[0][:16]}, from the log {digests[1][:16]}"
                findings.append(Finding(kind, table, detail, "rebuild", live.path(table)))
    return findings


def _offset(lake: DeltaLake, table: str) -> int | None:
    app = {"bronze": BRONZE_APP, "silver": SILVER_APP}.get(table.split("/")[0])
    return None if app is None or not lake.has(table) else lake.app_version(table, app)
