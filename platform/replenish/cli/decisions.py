"""`replenish decisions`: order lines, their verdicts, and why."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.markup import escape

from replenish.cli.deployment import default_root, open_deployment
from replenish.cli.tables import decision_table, frame_table, open_console, reasons_text
from replenish.errors import NotApplicable

group = typer.Typer(help="Replenishment decisions.", no_args_is_help=True)
TABLE = "decisions/replenishment"


def read_decisions(root: Path) -> pl.DataFrame:
    """Every decision row of this root, newest origin first, then by cost, largest first.

    Raises:
        NotApplicable: No decision was made yet.
    """
    lake = open_deployment(root).lake
    if not lake.has(TABLE):
        raise NotApplicable("no decision yet: run `replenish run`")
    order = ["origin_date", "order_cost_cents", "sku_id", "location_id", "revision"]
    return lake.read(TABLE).sort(order, descending=[True, True, False, False, True], nulls_last=True)


@group.command("list")
def list_decisions(
    verdict: Annotated[str | None, typer.Option(help="auto, approval, freeze or no_action.")] = None,
    sku: Annotated[str | None, typer.Option(help="Stock-keeping unit.")] = None,
    location: Annotated[str | None, typer.Option(help="Location.")] = None,
    origin: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Origin; default: the newest.")] = None,
    most: Annotated[int, typer.Option(help="Rows to print.")] = 20,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """The decisions of one origin, largest order first."""
    frame = read_decisions(root or default_root())
    day: date = origin.date() if origin else frame["origin_date"].max()  # type: ignore[assignment]
    frame = frame.filter(pl.col("origin_date") == day)
    for column, value in (("verdict", verdict), ("sku_id", sku), ("location_id", location)):
        if value is not None:
            frame = frame.filter(pl.col(column) == value)
    console = open_console()
    console.print(frame_table(f"Verdicts, origin {day}", frame["verdict"].value_counts(sort=True)))
    console.print(decision_table(f"Decisions, origin {day}", frame.head(most)))
    console.print("`replenish decisions show <decision>` tells all terms of one line")


@group.command("show")
def show_decision(
    decision_id: Annotated[str, typer.Argument(help="Decision id, or its first characters.")],
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """All terms of one decision: why this quantity, and why this verdict."""
    frame = read_decisions(root or default_root()).filter(pl.col("decision_id").str.starts_with(decision_id))
    if frame.is_empty():
        raise NotApplicable("no decision has this id; `replenish decisions list` shows them", decision_id=decision_id)
    row = frame.row(0, named=True)
    console = open_console()
    if as_json:
        console.print_json(json.dumps(row, default=str))
        return
    console.print(f"[bold]{row['verdict']}[/] {escape(reasons_text(row['reasons']))}", soft_wrap=True)
    terms = [(name, str(value)) for name, value in row.items() if name != "reasons" and value is not None]
    console.print(frame_table("Terms", pl.DataFrame(terms, schema=["term", "value"], orient="row")))
