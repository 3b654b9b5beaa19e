"""`replenish status`: one page on what is late, what was refused, and what was decided."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape

from replenish.bitemporal import origin_instant
from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.storage_facts import storage_alarms
from replenish.cli.tables import feed_counts_table, frame_table, letter_counts_table, letter_table, open_console
from replenish.control.alarms import read_alarm_policy
from replenish.control.freshness import freshness_of_lake
from replenish.control.stream_state import judge_streams
from replenish.errors import NotApplicable
from replenish.ingest.settle import SETTLED_TYPES, settled_positions

EVENTS_LOOKED_AT = 1000
"""Behind the last settled batch, for feeds whose events wait."""


def show_status(
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
            help="Instant in UTC to judge freshness at; default: the newest decision's origin, else now.",
        ),
    ] = None,
    dead: Annotated[int, typer.Option(help="Newest dead letters to list.")] = 8,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Feeds and their freshness, dead letters with reasons, tables and decisions."""
    deployment = open_deployment(root or default_root())
    console = open_console()
    instant = at.replace(tzinfo=UTC) if at else _last_origin_instant(deployment)
    console.print(f"data set [bold]{deployment.dataset.dataset_id}[/] in {deployment.layout.root}", soft_wrap=True)
    _print_alarms(deployment, console)
    console.print(feed_counts_table(deployment.journal))
    _print_waiting(deployment, console)
    _print_degraded(deployment, console)
    console.print(_freshness(deployment, instant))
    _print_letters(deployment, console, dead)
    if deployment.lake.has("decisions/replenishment"):
        counts = deployment.lake.read("decisions/replenishment").group_by("origin_date", "verdict", "status").len()
        shown = counts.sort("origin_date", "verdict", "status", descending=[True, False, False]).head(12)
        console.print(frame_table("Decisions", shown))


def _print_alarms(deployment: Deployment, console: Console) -> None:
    """Alarms of the stores, the worst in red, each with what to do."""
    for alarm in storage_alarms(deployment, read_alarm_policy(), now_utc()):
        colour = "red" if alarm.severity == "critical" else "yellow"
        line = f"[bold {colour}]{alarm.severity}[/]: {escape(alarm.subject)}. See {alarm.runbook}"
        console.print(line, soft_wrap=True)


def _print_waiting(deployment: Deployment, console: Console) -> None:
    """Whether events were accepted that are not facts yet."""
    journal = deployment.journal
    settled = settled_positions(journal)
    newest = journal.event_bodies(settled.through, limit=EVENTS_LOOKED_AT, types=SETTLED_TYPES)
    if feeds := sorted({event.subject for event in newest if not settled.has(event.subject, event.seq)}):
        words = f"[yellow]accepted events wait to be settled[/] ({escape(', '.join(feeds))}): the next run does it"
        console.print(f"{words}, or `replenish settle`", soft_wrap=True)


def _print_letters(deployment: Deployment, console: Console, most: int) -> None:
    """Open letters of every door: counts, and the newest of them."""
    counts = deployment.journal.count_dead_letters("open")
    if not counts:
        console.print("no open dead letters")
        return
    console.print(letter_counts_table("Open dead letters", counts))
    if most:
        newest = deployment.journal.newest_letters(most, status="open")
        console.print(letter_table("Newest open dead letters", newest))
        console.print("One of them whole: `replenish dead-letters show NR`. What to do: docs/runbooks/dead_letters.md")


def _print_degraded(deployment: Deployment, console: Console) -> None:
    """Streams whose source drifted out of its contract; nothing where all is well."""
    for state in judge_streams(deployment.journal, deployment.contracts):
        if state.health == "degraded":
            line = f"[bold yellow]degraded[/]: {state.stream} by {escape(state.feed_id)}: {escape(state.why)}"
            console.print(line, soft_wrap=True)


def _last_origin_instant(deployment: Deployment) -> datetime:
    if not deployment.lake.has("decisions/replenishment"):
        return now_utc()
    newest = deployment.lake.read("decisions/replenishment", columns=["origin_date"])["origin_date"].max()
    return origin_instant(newest, deployment.dataset.zone, deployment.dataset.cutoff)  # type: ignore[arg-type]


def _freshness(deployment: Deployment, instant: datetime) -> object:
    if not any(deployment.lake.has(f"silver/{stream}") for stream in deployment.contracts):
        return "freshness: no tables yet, `replenish run` makes them from the log"
    try:
        verdict = freshness_of_lake(deployment.lake, deployment.contracts, deployment.dataset, instant)
    except NotApplicable as why:
        return f"freshness: {escape(str(why))}"
    if verdict.is_healthy:
        return f"[green]fresh[/]: {verdict.n_feeds} feeds are inside their SLA at {instant:%Y-%m-%d %H:%M} UTC"
    rows = [(f.stream, f.location_id or "", f.state, round(f.delay_hours, 1), f.owner, f.runbook) for f in verdict.late]
    schema = ["stream", "location", "state", "age [hours]", "owner", "runbook"]
    return frame_table(f"Late at {instant:%Y-%m-%d %H:%M} UTC", pl.DataFrame(rows, schema=schema, orient="row"))
