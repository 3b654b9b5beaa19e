"""Ledgers built again from bronze are those that silver held at that place of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from replenish.cli.deployment import Deployment, open_deployment
from replenish.cli.silver_at import SilverAt
from replenish.cli.stages import run_to_silver
from replenish.stores.layout import RootLayout
from tests.scenario.worlds import NOW, small_retailer

EVENT_STREAMS = ("sales", "prices", "stock_counts")
ENTITY = ["sku_id", "location_id"]


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, dict[str, pl.DataFrame], int]:
    """A deployment, the silver tables it had after half of its files, and the place of the log it was then at."""
    root = tmp_path_factory.mktemp("half") / "root"
    deployment = small_retailer(root, n_days=45)
    drop, later = RootLayout(root).drop, root / "later"
    later.mkdir()
    files = sorted(path for path in drop.iterdir() if path.stem >= "p")
    for path in [path for nr, path in enumerate(files) if nr % 2]:
        path.rename(later / path.name)
    run_to_silver(deployment, now=NOW)
    halves = {stream: deployment.lake.read(f"silver/{stream}") for stream in EVENT_STREAMS}
    place = max(deployment.lake.app_version(f"silver/{stream}", "silver") or 0 for stream in EVENT_STREAMS)
    for path in later.iterdir():
        path.rename(drop / path.name)
    run_to_silver(deployment, now=datetime(2026, 1, 6, tzinfo=UTC))
    return open_deployment(root), halves, place


def keys_of(ledger: pl.DataFrame) -> pl.DataFrame:
    return ledger.select(ENTITY).unique().sort(ENTITY).gather_every(3)


@pytest.mark.parametrize("stream", EVENT_STREAMS)
def test_a_ledger_at_a_place_is_what_silver_held_there(
    deployments: tuple[Deployment, dict[str, pl.DataFrame], int], stream: str
) -> None:
    deployment, halves, place = deployments
    now = deployment.lake.read(f"silver/{stream}")
    keys = keys_of(now)
    at = SilverAt(deployment.lake, deployment.contracts, deployment.dataset)
    for expected, seq in ((halves[stream], place), (now, 10**9), (now, None)):
        found = at.silver_through(stream, keys, seq)
        mine = expected.join(keys, on=ENTITY, how="semi").select(found.columns)
        assert mine.height
        assert found.sort(found.columns).equals(mine.sort(found.columns))


def test_places_are_those_that_say_something_of_a_key(
    deployments: tuple[Deployment, dict[str, pl.DataFrame], int],
) -> None:
    deployment, _, place = deployments
    bronze = deployment.lake.read("bronze/sales")
    keys = keys_of(bronze).head(1)
    at = SilverAt(deployment.lake, deployment.contracts, deployment.dataset)
    places = at.seqs_of("sales", keys, place)
    expected = bronze.join(keys, on=ENTITY, how="semi").filter(pl.col("journal_seq") <= place)["journal_seq"]
    assert places == expected.unique().sort(descending=True).to_list()
    assert at.seqs_of("receipts_of_nobody", keys, place) == []


def test_a_stream_without_a_table_has_no_postings(tmp_path: Path) -> None:
    deployment = small_retailer(tmp_path / "root", n_days=30)
    at = SilverAt(deployment.lake, deployment.contracts, deployment.dataset)
    keys = pl.DataFrame({"sku_id": ["A"], "location_id": ["S1"]})
    assert at.silver_through("sales", keys, 5).is_empty()
    assert at.silver_through("sales", keys, None).is_empty()
