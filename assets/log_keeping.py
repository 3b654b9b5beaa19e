"""Keeping the log: sealed into segments every hour, trimmed every night, shipped to the standbys every minute."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from assets.gate import as_markdown
from assets.maintenance import MAINTENANCE_GROUP
from assets.schedules import upkeep_schedule
from assets.settings import stage_settings
from replenish.cli.storage_facts import standby_roots
from replenish.errors import AlreadyRunning, ReplenishError
from replenish.stores.layout import RootLayout
from replenish.stores.segments import seal, sealed_segments
from replenish.stores.standby import ship
from replenish.stores.trim import trim
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.journal import JournalResource

T = TypeVar("T")
SHIP_EVERY_SECONDS = 60
SEALING_CRON = "47 * * * *"
"""Every hour, away from the doctor's visit."""
# By their schedules alone: they follow from no event.
_SETTINGS = {
    **stage_settings(MAINTENANCE_GROUP, tier="silver", kinds={"sqlite"}),
    "automation_condition": None,
}


def build_log_keeping() -> list[dg.AssetsDefinition]:
    """The assets `seal_log` (hourly) and `trim_log` (nightly, with the lake's maintenance)."""

    @dg.asset(
        name="seal_log",
        description="Seals what was journalled since the last segment, once 10,000 records wait; checked and on disk.",
        **_SETTINGS,
    )
    def seal_log(deployment: DeploymentResource, journal: JournalResource) -> Iterator[Any]:
        log = journal.open()
        new = _unless_somebody_does(lambda: seal(log, deployment.layout)) or []
        all_of_them = sealed_segments(deployment.layout.segments)
        rows = [{"first": s.first_seq, "last": s.last_seq, "records": s.n, "sha256": s.sha256[:16]} for s in new]
        yield dg.MaterializeResult(
            metadata={
                "new_segments": as_markdown(pl.DataFrame(rows)),
                "dagster/row_count": sum(segment.n for segment in all_of_them),
                "records_not_sealed_yet": log.last_seq() - (all_of_them[-1].last_seq if all_of_them else 0),
            }
        )
        log.close()

    @dg.asset(
        name="trim_log",
        deps=["seal_log"],
        description="Takes bodies of sealed, settled events of 30 days ago out of the journal; segments keep them.",
        **_SETTINGS,
    )
    def trim_log(deployment: DeploymentResource, journal: JournalResource, clock: ClockResource) -> Iterator[Any]:
        log = journal.open()
        n_trimmed = _unless_somebody_does(lambda: trim(log, deployment.layout, now=clock.now()))
        yield dg.MaterializeResult(metadata={"trimmed_bodies": n_trimmed or 0})
        log.close()

    return [seal_log, trim_log]


def _unless_somebody_does(work: Callable[[], T]) -> T | None:
    """The work's result; None where another process is at it, which is as good."""
    try:
        return work()
    except AlreadyRunning:
        return None


def build_sealing_job() -> Any:
    """`sealing`: the log's segments, and nothing that waits for a table."""
    return dg.define_asset_job(
        "sealing", selection=dg.AssetSelection.assets("seal_log"), description="Seal the log into segments."
    )


def build_sealing_schedule(job: Any) -> dg.ScheduleDefinition:
    """Sealing, every hour."""
    return upkeep_schedule("sealing_hourly", job, SEALING_CRON, "Seals the log every hour.")


def build_shipping() -> Any:
    """The sensor `standby_shipping`: ships the log to every root that REPLENISH_STANDBYS names."""

    @dg.sensor(
        name="standby_shipping",
        minimum_interval_seconds=SHIP_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ships the log to the standbys; the alarm `standby` says when one stays behind.",
    )
    def standby_shipping(
        context: dg.SensorEvaluationContext, deployment: DeploymentResource, clock: ClockResource
    ) -> dg.SkipReason:
        if not deployment.layout.journal.is_file() or not standby_roots():
            return dg.SkipReason("no log under this root yet, or REPLENISH_STANDBYS names no standby")
        said = []
        for root in standby_roots():
            try:
                shipped = ship(deployment.layout, RootLayout(root), now=clock.now())
                said.append(f"{root.name}: up to record {shipped.last_seq}")
            except AlreadyRunning:
                said.append(f"{root.name}: is being shipped to")
            except (ReplenishError, OSError) as fault:
                context.log.warning(f"standby {root}: {fault}")
                said.append(f"{root.name}: {fault}")
        return dg.SkipReason("; ".join(said))

    return standby_shipping
