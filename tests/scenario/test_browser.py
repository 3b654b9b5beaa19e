"""A person's first look: lineage, an asset with a plot, its checks and the drift report, in a headless Chromium.

Set `REPLENISH_SCREENSHOTS=<folder>` to keep the pictures, `REPLENISH_BROWSER_ROOT=<root>` to look at a root that was
materialized before; otherwise a small one is made.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replenish.cli.dagster_process import dagster_environment, materialize, reports_server
from replenish.cli.demo import lay_out_retailer
from replenish.contracts.dataset_reader import read_dataset
from replenish.drift.report import REPORTS_PORT
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.layout import RootLayout

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
VIEW = {"width": 1680, "height": 950}
START_SECONDS = 120
LOOK_MS = 60_000
FADE_MS = 800
"""Dialogs of the UI fade in."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> RootLayout:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    if given := os.environ.get("REPLENISH_BROWSER_ROOT"):
        return RootLayout(Path(given))
    layout = lay_out_retailer(
        tmp_path_factory.mktemp("browser") / "root", RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=400)
    )
    materialize(layout, select="*", origin=read_dataset(layout.dataset_file).origin, on_step=lambda step: None)
    return layout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def reports(layout) -> Iterator[str]:
    """Address of the reports, served as `replenish dev` does but on a port that is free."""
    port = free_port()
    with reports_server(layout, port):
        wait_for(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def ui(layout) -> Iterator[str]:
    """Address of a read-only Dagster UI on the root."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "dagster-webserver"), "-w", "workspace.yaml", "-h", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "-p", str(port), "--read-only"],
        cwd=CHECKOUT,
        env=dagster_environment(layout),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/server_info", server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def page(layout) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *QUIET])
        yield browser.new_page(viewport=VIEW)
        browser.close()


def wait_for(address: str, server: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the address answers; fail when its server ended or took too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server is None or server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the server did not answer")


def keep(page: Any, name: str) -> None:
    """Keep a picture where a folder was named."""
    if folder := os.environ.get("REPLENISH_SCREENSHOTS"):
        page.wait_for_timeout(FADE_MS)
        page.screenshot(path=str(Path(folder) / name))


def test_the_lineage_shows_every_stage(ui, page) -> None:
    page.goto(f"{ui}/asset-groups", timeout=LOOK_MS)
    for group in ("ingest", "history", "gold", "features", "forecast", "drift", "decide", "outcomes", "published"):
        page.get_by_text(group, exact=True).first.wait_for(timeout=LOOK_MS)
    keep(page, "lineage.png")


def test_an_asset_shows_its_plot(ui, page) -> None:
    page.goto(f"{ui}/assets/forecast_demand", timeout=LOOK_MS)
    page.get_by_text("Show Markdown").first.click(timeout=LOOK_MS)
    plot = page.locator("img[src^='data:image/png']").first
    plot.wait_for(timeout=LOOK_MS)
    assert plot.evaluate("image => image.naturalWidth") > 300
    keep(page, "asset_plot.png")


def test_the_checks_of_a_table_are_listed(ui, page) -> None:
    page.goto(f"{ui}/assets/silver_sales?view=checks&checkDetail=schema_holds", timeout=LOOK_MS)
    page.get_by_text("rows_checked").first.wait_for(timeout=LOOK_MS)
    keep(page, "checks.png")


def test_the_drift_report_opens_from_its_asset(ui, reports, page) -> None:
    page.goto(f"{ui}/assets/drift_report", timeout=LOOK_MS)
    link = page.locator(f"a[href^='http://127.0.0.1:{REPORTS_PORT}/']").first
    link.wait_for(timeout=LOOK_MS)
    page.goto(f"{reports}/{link.get_attribute('href').rpartition('/')[2]}", timeout=LOOK_MS)
    page.get_by_text("Dataset Drift").first.wait_for(timeout=LOOK_MS)
    keep(page, "drift_report.png")
