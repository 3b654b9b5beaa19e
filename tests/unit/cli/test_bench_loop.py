"""The benchmark's world: the same bytes for the same seed, and as many lines as it says."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from replenish.cli.bench_loop import N_DAYS, write_sales_files
from replenish.digests import file_digest


def read_files(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_csv(path) for path in sorted(folder.iterdir())])


def test_the_number_of_lines_is_that_of_the_files(tmp_path: Path) -> None:
    n_lines = write_sales_files(tmp_path / "data", 24_000)
    rows = read_files(tmp_path / "data")
    assert rows.height == n_lines
    assert len(list((tmp_path / "data").iterdir())) == N_DAYS
    assert rows["receipt"].n_unique() > 0.98 * 24_000


def test_some_lines_are_late_and_some_are_corrected(tmp_path: Path) -> None:
    write_sales_files(tmp_path / "data", 24_000)
    rows = read_files(tmp_path / "data")
    is_late = pl.col("recorded_at").str.head(10) > pl.col("sold_at").str.head(10)
    assert 0.02 < rows.select(is_late.mean()).item() < 0.06
    assert 100 < rows["receipt"].is_duplicated().sum() < 1_000


def test_equal_seeds_write_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sales_files(tmp_path / name, 2_400)
    for path in (tmp_path / "one").iterdir():
        assert file_digest(path) == file_digest(tmp_path / "two" / path.name)
