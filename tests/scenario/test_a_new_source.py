"""A source nobody has seen before: other names, separator, decimals, dates, and not a line of Python."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from typer.testing import CliRunner

from replenish.cli.deployment import open_deployment, prepare_deployment
from replenish.cli.main import app
from replenish.cli.stages import build_gold_tables, run_to_silver
from tests.scenario.worlds import NOW

FEED = """
dataset_id: corner_shop
zone: Europe/Madrid
origin: 2025-03-03
feeds:
  - feed_id: corner_shop.till
    stream: sales
    files: ["ventas-*.txt"]
    format: {separator: "|", decimal: ",", thousands: ".", encoding: latin-1}
    columns:
      location_id: {value: MADRID-1}
      sold_at: {column: fecha, formats: ["%d.%m.%Y %H:%M"]}
      sale_id: {template: "{ticket}-{línea}"}
      sku_id: {column: artículo, transform: [strip, upper]}
      units: cantidad
      unit_price_cents: {column: precio, factor: 100}
    knowledge: {source: delay, delay_hours: 4}
    exclude:
      - {reason: gift_voucher, when: {column: artículo, matches: "^GV"}}
"""
FILE = (
    "ticket|línea|fecha|artículo|cantidad|precio\r\n"
    "1|1|01.03.2025 10:00| vino-1 |2|1.234,50\r\n"
    "1|2|01.03.2025 10:00|queso|3|4,25\r\n"
    "2|1|02.03.2025 11:30|GV-20|1|20,00\r\n"
)


def lay_out(folder: Path) -> Path:
    folder.mkdir()
    (folder / "corner.feed.yaml").write_text(FEED, encoding="utf-8")
    (folder / "ventas-2025-03.txt").write_bytes(FILE.encode("latin-1"))
    return folder


def test_a_csv_of_unknown_shape_needs_a_feed_file_and_no_python(tmp_path: Path) -> None:
    data = lay_out(tmp_path / "data")
    prepare_deployment(tmp_path / "root", data, feed=None, assume=None)
    deployment = open_deployment(tmp_path / "root")
    report, _ = run_to_silver(deployment, now=NOW)
    build_gold_tables(deployment.lake, tmp_path / "dbt")

    (verdict,) = report.files
    assert (verdict.offered, verdict.accepted, verdict.dead, verdict.duplicate) == (3, 2, 1, 0)
    assert verdict.reasons == {"gift_voucher": 1}
    silver = deployment.lake.read("silver/sales").sort("sku_id")
    assert silver.select("sku_id", "units", "unit_price_cents").rows() == [("QUESO", 3, 425), ("VINO-1", 2, 123450)]
    demand = deployment.lake.read("gold/fct_demand")
    assert demand["units"].sum() == 5
    assert demand.filter(pl.col("location_id") != "MADRID-1").is_empty()


def test_feeds_check_reads_feed_and_data_without_keeping_anything(tmp_path: Path) -> None:
    data = lay_out(tmp_path / "data")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = CliRunner().invoke(app, ["feeds", "check", str(data)])
    assert done.exit_code == 0, done.output
    assert "gift_voucher" in done.output
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_feed_that_names_an_unknown_column_says_which(tmp_path: Path) -> None:
    data = lay_out(tmp_path / "data")
    feed = data / "corner.feed.yaml"
    feed.write_text(FEED.replace("sku_id:", "skuu_id:"), encoding="utf-8")
    done = CliRunner().invoke(app, ["feeds", "check", str(data)])
    assert done.exit_code != 0
    assert "skuu_id" in str(done.exception)
