"""`replenish doctor`: what is damaged on the disk, what it means, what was done, and what a person has to do."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import Depth, DoctorReport, DoctorTools, pay_visit
from replenish.cli.rebuild_tables import compare_with_the_log
from replenish.cli.stages import build_gold_tables
from replenish.cli.tables import open_console
from replenish.errors import BrokenPromise
from replenish.stores.doctor.findings import Finding


def call_doctor(
    repair: Annotated[bool, typer.Option("--repair/--no-repair", help="Mend what can be mended, or only look.")] = True,
    deep: Annotated[bool, typer.Option("--deep", help="Also make bronze and silver again beside and compare.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes and logs only, as before a start.")] = False,
    from_root: Annotated[
        list[Path] | None, typer.Option("--from", help="Root of a standby to take lost entries and files from.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Check journal, archive, accepted rows and tables; mend from the log. Exit code 0 clean, 1 mended, 2 needs you."""
    deployment = open_deployment(root or default_root())
    depth: Depth = "deep" if deep else "quick" if quick else "full"
    report = examine_deployment(deployment, depth=depth, is_repairing=repair, helpers=tuple(from_root or ()))
    if as_json:
        print(json.dumps(report.as_json(), sort_keys=True, ensure_ascii=False))
    else:
        print_report(report, open_console())
    sys.exit(report.exit_code)


def examine_deployment(
    deployment: Deployment, *, depth: Depth, is_repairing: bool, helpers: tuple[Path, ...] = ()
) -> DoctorReport:
    """A visit with the tools of production: gold is made by dbt, a deep look makes tables again in a scratch folder."""
    scratch = deployment.layout.root / "dbt"
    tools = DoctorTools(lambda: build_gold_tables(deployment.lake, scratch), _deep_look, helpers)
    return pay_visit(deployment, tools, depth=depth, is_repairing=is_repairing, now=now_utc())


def print_report(report: DoctorReport, console: Console) -> None:
    """The report in plain words: per finding what it is, what it means, what was done, what is left to do."""
    for treatment in report.treatments:
        found = treatment.finding
        colour = "yellow" if treatment.is_mended else "red"
        console.print(f"[bold {colour}]{found.subject}[/]: {escape(found.detail)}", soft_wrap=True)
        console.print(f"  means:  {escape(found.meaning)}", soft_wrap=True)
        console.print(f"  done:   {escape(treatment.done)}", soft_wrap=True)
        if treatment.advice:
            console.print(f"  to do:  {escape(treatment.advice)}", soft_wrap=True)
    if report.quarantine:
        console.print(f"set aside, nothing deleted: {report.quarantine}", soft_wrap=True)
    n_found, n_open = len(report.treatments), report.needs_person
    if not n_found:
        console.print(f"[green]whole[/]: journal, archive, accepted rows and {report.n_tables} tables ({report.depth})")
    elif n_open:
        console.print(f"[red]{n_found} findings, {n_open} need a person[/]: docs/runbooks/damage.md")
    else:
        console.print(f"[yellow]{n_found} findings, all mended[/]")


def _deep_look(deployment: Deployment) -> list[Finding]:
    scratch = Path(tempfile.mkdtemp(prefix="doctor-", dir=deployment.layout.root))
    try:
        return compare_with_the_log(deployment, scratch)
    finally:
        # Our own scratch copy, never data.
        shutil.rmtree(scratch)


def check_before_start(deployment: Deployment) -> None:
    """The quick look before `replenish run`, `ingest` and `serve`: mends tables, refuses a damaged journal.

    Raises:
        BrokenPromise: Something needs a person before anything is taken in.
    """
    report = examine_deployment(deployment, depth="quick", is_repairing=False)
    if not report.treatments:
        return
    report = examine_deployment(deployment, depth="quick", is_repairing=True)
    print_report(report, Console(stderr=True))
    unsafe = [t for t in report.treatments if not t.is_mended and t.finding.kind.startswith("journal")]
    if unsafe:
        raise BrokenPromise("the log is damaged; see above and docs/runbooks/damage.md", found=unsafe[0].finding.kind)
