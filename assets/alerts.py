"""What the alert sensors send: who has to act, on what, and where it says how."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from assets.event_log import feed_key
from assets.settings import STAGE_OWNERS
from replenish.contracts.model import Contract
from replenish.control.alerts import Alert, alert_id
from replenish.control.freshness import FRESHNESS_TABLE
from replenish.stores.lake import DeltaLake

RUNS_RUNBOOK = "docs/runbooks/runs.md"
RUN_OWNER = STAGE_OWNERS["ingest"]
"""Who answers for a run that failed outside of any step."""


def failed_since(instance: dg.DagsterInstance, stream: str) -> datetime | None:
    """When the last delivery of a feed in state FAIL was; None while it is in another state.

    The instant does not move until data arrive, so it names the breach: an alert with it in its id is sent once.
    """
    key = dg.AssetKey(feed_key(stream))
    state = instance.get_freshness_state_records([key]).get(key)
    last = instance.get_latest_materialization_event(key)
    if state is None or state.freshness_state.name != "FAIL" or last is None:
        return None
    return datetime.fromtimestamp(last.timestamp, UTC)


def silent_locations(lake: DeltaLake) -> Iterator[tuple[str, str, datetime]]:
    """Stream, location and newest record of every location that fell silent while others of its stream deliver.

    Dagster sees the deliveries of a stream, not where they come from; this is what the newest origin saw by data time.
    """
    if not lake.has(FRESHNESS_TABLE):
        return
    seen = lake.read(FRESHNESS_TABLE).filter(pl.col("as_of") == pl.col("as_of").max())
    is_late = pl.col("state") == "fail"
    alone = seen.filter(is_late & ~is_late.all().over("stream")).sort("stream", "location_id")
    yield from alone.select("stream", "location_id", "newest_known_at").iter_rows()


def feed_alert(contract: Contract, since: datetime, now: datetime, location_id: str | None = None) -> Alert:
    """The alert of one late feed, or of one location of it."""
    place = (location_id,) if location_id else ()
    name = " of ".join([contract.stream, *place])
    return Alert(
        id=alert_id("late-feed", contract.stream, *place, since.isoformat()),
        subject=f"{name}: nothing since {since:%Y-%m-%d %H:%M} UTC",
        owner=contract.owner,
        runbook=contract.runbook,
        severity="critical" if contract.sla.tier == "gold" else "warning",
        message=f"The SLA is {contract.sla.fail_after_hours:g} h. Decisions that rest on it fall to `approval`.",
        affected=(f"silver/{contract.stream}", *place),
        raised_at=now,
    )


def step_owners(assets: Iterable[dg.AssetsDefinition]) -> dict[str, str]:
    """The step of every asset to the owner who answers first, in Dagster's form."""
    return {asset.op.name: next(iter(asset.specs)).owners[0] for asset in assets}


def run_alerts(
    run_id: str, job: str, steps: tuple[str, ...], owners: Mapping[str, str], message: str, now: datetime
) -> Iterator[Alert]:
    """The alerts of one failed run: one to each owner of a step that failed, with that owner's steps."""
    by_owner: dict[str, list[str]] = {}
    for step in steps:
        by_owner.setdefault(owners.get(step, RUN_OWNER), []).append(step)
    for owner, failed in sorted(by_owner.items()) or [(RUN_OWNER, [])]:
        yield Alert(
            id=alert_id("failed-run", run_id, owner),
            subject=f"run {run_id[:8]} of {job} failed" + (f" at {', '.join(failed)}" if failed else ""),
            owner=owner.removeprefix("team:"),
            runbook=RUNS_RUNBOOK,
            severity="critical",
            message=message[:1000],
            affected=tuple(failed),
            raised_at=now,
        )
