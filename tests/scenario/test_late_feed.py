"""A feed stops past its SLA: one alert, no order leaves alone, and all is well again when data arrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import time_machine
from typer.testing import CliRunner

from replenish.bitemporal import origin_instant
from replenish.cli.deployment import open_deployment
from replenish.cli.main import app
from replenish.cli.stages import run_to_features
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.profile import read_profile
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.control.freshness import update_freshness
from replenish.control.policy import read_policy
from replenish.decide.replenish import decide_origin
from replenish.features.lead_time import update_lead_times
from replenish.forecast.backtest import run_backtest
from replenish.forecast.challenger import train_challenger
from replenish.forecast.predict import forecast_origin
from replenish.forecast.protection import protection_demand
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_files import write_day, write_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.layout import RootLayout
from replenish.stores.outbox import Outbox
from replenish.stores.registry import ModelRegistry
from tests.scenario.code_location import CodeLocation

pytestmark = pytest.mark.slow

PLAN = RetailerPlan(seed=3, n_skus=6, n_locations=2, n_days=200, with_faults=False)
DAY = timedelta(days=1)
EVERYWHERE = "every store"
LOOK_AFTER = timedelta(hours=1)
"""Files of a night are taken in this long after the cut-off."""


START = PLAN.first_date + PLAN.n_days * DAY
STOPPED, RESUMED, PARTLY = START + 3 * DAY, START + 4 * DAY, START + 6 * DAY
"""Origins that are decided: after three nights without counts, after the next one, after two without one store's."""


@dataclass(frozen=True)
class Morning:
    """What could be seen at one origin after its decisions."""

    states: dict[str, str]
    alerts: list[dict[str, Any]]
    status: str
    orders: pl.DataFrame

    def verdicts(self, location_id: str | None = None) -> set[str]:
        place = pl.lit(True) if location_id is None else pl.col("location_id") == location_id
        return set(self.orders.filter(place)["verdict"])


class Shop:
    """A small retailer that lives on night by night."""

    def __init__(self, root: Path) -> None:
        self.world: World = build_world(PLAN)
        self.layout = RootLayout(root)
        write_world(self.layout.drop, self.world)
        write_dataset(read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml"), self.layout.dataset_file)
        self.held: dict[str, str] = {}
        self.dagster = CodeLocation(root)
        self.deployment = open_deployment(root)
        self.registry = ModelRegistry(self.layout.registry)

    def cutoff(self, origin: date) -> datetime:
        dataset = self.deployment.dataset
        return origin_instant(origin, dataset.zone, dataset.cutoff)

    def live_through(self, origin: date, *, silent: str | None = None) -> None:
        """The night before an origin: its files, but for counts of `silent`, taken in by Dagster; then its daemons."""
        day = (origin - PLAN.first_date).days - 1
        for path in write_day(self.layout.drop, self.world, day) if origin > START else ():
            if silent is not None and path.name.startswith("stock"):
                self.hold_back(path, silent)
        with time_machine.travel(self.cutoff(origin) + LOOK_AFTER):
            assert self.dagster.ingest().success
            self.look()

    def look(self) -> None:
        """One round of Dagster's freshness daemon and of the alert sensor, twice: nothing is sent twice."""
        self.dagster.judge_freshness()
        self.dagster.look("freshness_alerts")
        self.dagster.look("freshness_alerts")

    def hold_back(self, path: Path, store: str) -> None:
        """Take a store's rows out of a file, or the whole file for EVERYWHERE, to be delivered later."""
        self.held[path.name] = path.read_text(encoding="utf-8")
        rows = pl.read_csv(path, infer_schema=False)
        path.unlink()
        if store != EVERYWHERE:
            rows.filter(pl.col("store") != store).write_csv(path)

    def release(self) -> None:
        """Deliver what was held back, under names of its own: a late file comes after the others."""
        for name, content in self.held.items():
            (self.layout.drop / f"{Path(name).stem}-late.csv").write_text(content, encoding="utf-8")
        self.held = {}

    def train(self, origin: date) -> None:
        opened, profile = self.deployment, read_profile(self.deployment.dataset.profile)
        run_to_features(opened, now=self.cutoff(origin), through=origin)
        run_backtest(opened.lake, opened.dataset, profile, origin)
        train_challenger(opened.lake, self.registry, opened.dataset, profile, origin)

    def decide(self, origin: date) -> Morning:
        """The stages of the daily run after its event log, and what a person sees then."""
        opened, profile = self.deployment, read_profile(self.deployment.dataset.profile)
        lake, dataset, contracts = opened.lake, opened.dataset, opened.contracts
        run_to_features(opened, now=self.cutoff(origin) + LOOK_AFTER, through=origin)
        update_lead_times(lake, dataset, origin)
        forecast_origin(lake, self.registry, dataset, profile, origin)
        protection_demand(lake, dataset, profile, origin)
        update_freshness(lake, contracts, dataset, self.cutoff(origin))
        outbox = Outbox(self.layout.outbox)
        run = decide_origin(lake, opened.journal, outbox, dataset, read_policy(), contracts, origin)
        with time_machine.travel(self.cutoff(origin) + 2 * LOOK_AFTER):
            self.look()
        states = {stream: self.dagster.state(stream) for stream in ("sales", "stock_counts")}
        shown = CliRunner().invoke(app, ["status"], env={"REPLENISH_ROOT": str(self.layout.root)})
        assert shown.exit_code == 0, shown.output
        orders = run.decisions.filter(pl.col("order_units") > 0)
        return Morning(states, self.dagster.alerts(), shown.output, orders)


@pytest.fixture(scope="module")
def mornings(tmp_path_factory) -> dict[date, Morning]:
    """A week of a small retailer: counts stop for three nights, come back, and stop for one store."""
    shop = Shop(tmp_path_factory.mktemp("late") / "root")
    shop.live_through(START)
    shop.train(START)
    seen = {}
    for night in range(1, 4):
        shop.live_through(START + night * DAY, silent=EVERYWHERE)
        seen[START + night * DAY] = shop.dagster.state("stock_counts")
    assert list(seen.values()) == ["PASS", "WARN", "FAIL"]
    found = {STOPPED: shop.decide(STOPPED)}
    shop.release()
    shop.live_through(RESUMED)
    found[RESUMED] = shop.decide(RESUMED)
    for night in (RESUMED + DAY, PARTLY):
        shop.live_through(night, silent="S2")
    return found | {PARTLY: shop.decide(PARTLY)}


def test_a_stopped_feed_fails_in_dagster_and_the_others_do_not(mornings) -> None:
    assert mornings[STOPPED].states == {"sales": "PASS", "stock_counts": "FAIL"}


def test_a_stopped_feed_is_alerted_once_with_owner_and_runbook(mornings) -> None:
    (alert,) = mornings[STOPPED].alerts
    assert alert["owner"] == "store_data"
    assert alert["runbook"] == "docs/runbooks/feeds.md#stock-counts"
    assert alert["affected"] == ["silver/stock_counts"]


def test_status_names_the_stopped_feed_and_its_locations(mornings) -> None:
    late = mornings[STOPPED].status.partition("Late at")[2].partition("Decisions")[0]
    for place in ("S1", "S2"):
        assert any({"stock_counts", place, "fail"} <= set(line.split()) for line in late.splitlines()), place


def test_no_order_that_rests_on_a_stopped_feed_leaves_alone(mornings) -> None:
    assert mornings[STOPPED].verdicts() == {"approval"}
    assert all("late_stock_counts" in reasons for reasons in mornings[STOPPED].orders["reasons"])


def test_all_recovers_when_data_arrive(mornings) -> None:
    morning = mornings[RESUMED]
    assert morning.states == {"sales": "PASS", "stock_counts": "PASS"}
    assert "auto" in morning.verdicts()
    assert not any("late_stock_counts" in reasons for reasons in morning.orders["reasons"])
    assert "Late at" not in morning.status
    assert morning.alerts == mornings[STOPPED].alerts


def test_one_silent_location_is_alerted_and_holds_back_its_own_orders_only(mornings) -> None:
    morning = mornings[PARTLY]
    assert morning.states["stock_counts"] == "PASS"
    assert morning.verdicts("S2") == {"approval"}
    is_late = pl.col("reasons").str.contains("late_stock_counts")
    assert set(morning.orders.filter(is_late)["location_id"]) == {"S2"}
    (alert,) = [alert for alert in morning.alerts if "S2" in alert["affected"]]
    assert (alert["owner"], len(morning.alerts)) == ("store_data", 2)
