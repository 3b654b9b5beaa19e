"""The Evidently report of one origin: distributions of the model's inputs beside their reference, for people.

Gating never reads it: scores and thresholds are ours (`drift.scores`).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.drift.psi import PSI_THRESHOLD
from replenish.drift.scores import feature_windows, key_features
from replenish.errors import NotApplicable
from replenish.stores.lake import DeltaLake

MAX_SAMPLE_ROWS = 20_000
"""A report on all rows costs minutes and says the same."""

MIN_REPORT_ROWS = 30
SAMPLE_SEED = 1

REPORTS_PORT = 3001
"""Where `replenish dev` serves the reports, on this machine only: a browser follows no file link from the UI's page."""


def report_path(folder: Path, origin: date) -> Path:
    """Where the report of an origin lies."""
    return folder / f"drift-{origin.isoformat()}.html"


def report_link(path: Path) -> str:
    """Address of a report while `replenish dev` runs."""
    return f"http://127.0.0.1:{REPORTS_PORT}/{path.name}"


def write_evidently_report(lake: DeltaLake, profile: ForecastProfile, origin: date, folder: Path) -> Path:
    """Write the HTML report of an origin's key features, recent origins against the weeks before, and return its path.

    Raises:
        NotApplicable: Too few feature rows before or at the origin.
    """
    reference, current = feature_windows(lake, profile, origin)
    if min(reference.height, current.height) < MIN_REPORT_ROWS:
        raise NotApplicable("not_applicable: too few origins with features for a drift report", origin=origin)
    columns = [c for c in key_features(current) if reference[c].drop_nulls().len() and current[c].drop_nulls().len()]
    folder.mkdir(parents=True, exist_ok=True)
    path = report_path(folder, origin)
    draft = path.with_suffix(".draft")
    write_frames_report(_sample(reference, columns), _sample(current, columns), draft)
    draft.replace(path)
    return path


def write_frames_report(reference: pl.DataFrame, current: pl.DataFrame, path: Path) -> None:
    """Write the report of two frames of numeric columns; nothing leaves the machine.

    Slow: Evidently takes seconds to import and to draw.
    """
    from evidently import DataDefinition, Dataset, Report, telemetry
    from evidently.presets import DataDriftPreset

    telemetry.event_logger.enabled = False
    definition = DataDefinition(numerical_columns=current.columns)
    sides = [Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in (current, reference)]
    report = Report([DataDriftPreset(method="psi", threshold=PSI_THRESHOLD)])
    report.run(*sides).save_html(str(path))


def _sample(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    ordered = frame.sort("origin_date", "sku_id", "location_id").select(pl.col(columns).cast(pl.Float64))
    return ordered.sample(min(MAX_SAMPLE_ROWS, ordered.height), seed=SAMPLE_SEED)
