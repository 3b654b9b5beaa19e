"""`replenish features`: what features mean, whether their definitions hold, and the versions that were given out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from replenish.cli.tables import frame_table, open_console
from replenish.contracts.reader import read_contracts
from replenish.errors import ContractError
from replenish.features.definitions.catalogue import (
    CATALOGUE_FILE,
    catalogue_is_current,
    catalogue_text,
    feature_rows,
)
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import FEATURE_FOLDER, read_feature_sets
from replenish.features.definitions.recorded import judge_feature_versions, record_feature_set

group = typer.Typer(help="Feature definitions: what each feature means.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="Folder of the definitions.")]
Page = Annotated[Path, typer.Option(help="The catalogue.")]


@group.command("list")
def list_features(
    names: Annotated[list[str] | None, typer.Argument(help="Feature sets; default: all.")] = None,
    folder: Folder = FEATURE_FOLDER,
) -> None:
    """Every feature of the sets: meaning, what it reads, unit, owner, classification."""
    console, contracts = open_console(), read_contracts()
    for feature_set in _chosen(names, folder):
        rows = [
            (r.name, r.reads, r.unit, r.classification, r.owner, r.meaning)
            for r in feature_rows(feature_set, contracts)
        ]
        schema = ["feature", "reads", "unit", "classification", "owner", "meaning"]
        title = f"{feature_set.name} {feature_set.version}: {len(rows)} features, clock {feature_set.clock}"
        console.print(frame_table(title, pl.DataFrame(rows, schema, orient="row"), most=len(rows)))


@group.command("check")
def check_features(folder: Folder = FEATURE_FOLDER, page: Page = CATALOGUE_FILE) -> None:
    """Read every definition strictly, hold the sets against their recorded versions, and the catalogue against both."""
    console = open_console()
    feature_sets = read_feature_sets(folder)
    verdicts = judge_feature_versions(feature_sets, folder)
    is_current = catalogue_is_current(catalogue_text(feature_sets.values(), read_contracts()), page)
    for verdict in verdicts:
        words = f"[red]refused[/] {verdict.name}@{verdict.version} {verdict.refusal}"
        _say(console, f"[green]ok[/] {verdict.name}@{verdict.version}" if verdict.refusal is None else words)
    _say(
        console,
        f"[green]ok[/] {page.name} is current"
        if is_current
        else f"[red]refused[/] {page.name} is stale: `replenish features catalogue`",
    )
    if not is_current or any(verdict.refusal is not None for verdict in verdicts):
        raise typer.Exit(1)


@group.command("record")
def record_features(
    names: Annotated[list[str] | None, typer.Argument(help="Feature sets; default: all.")] = None,
    folder: Folder = FEATURE_FOLDER,
) -> None:
    """Keep the present meaning of each set under its version; that number never means anything else from then on."""
    console = open_console()
    for feature_set in _chosen(names, folder):
        path = record_feature_set(feature_set, folder)
        done = "is recorded" if path is None else f"recorded as {path.name}"
        _say(console, f"{feature_set.name}: {done}")


@group.command("catalogue")
def write_catalogue(folder: Folder = FEATURE_FOLDER, page: Page = CATALOGUE_FILE) -> None:
    """Write the catalogue anew from the definitions."""
    feature_sets = read_feature_sets(folder)
    page.write_text(catalogue_text(feature_sets.values(), read_contracts()), encoding="utf-8")
    n_features = sum(len(feature_set.features) for feature_set in feature_sets.values())
    _say(open_console(), f"{page.name}: {len(feature_sets)} feature sets, {n_features} features")


def _chosen(names: list[str] | None, folder: Path) -> list[FeatureSet]:
    feature_sets = read_feature_sets(folder)
    unknown = [name for name in names or () if name not in feature_sets]
    if unknown:
        raise ContractError(f"no feature set {unknown[0]!r}; known: {', '.join(feature_sets)}")
    return [feature_set for name, feature_set in feature_sets.items() if not names or name in names]


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
