"""The Evidently report on the installed version: one HTML file, and nothing leaves the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from replenish.drift.report import write_frames_report


@pytest.mark.slow
def test_a_report_of_two_frames_is_one_html_file_and_sends_no_telemetry(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    reference = pl.DataFrame({"units_mean__28": draw.normal(size=400), "price_cents": draw.integers(1, 9, 400)})
    path = tmp_path / "drift.html"
    write_frames_report(reference, reference.with_columns(pl.col("units_mean__28") + 2), path)
    text = path.read_text(encoding="utf-8")
    assert "units_mean__28" in text and "price_cents" in text

    from evidently import telemetry

    assert not telemetry.event_logger.is_enabled()
