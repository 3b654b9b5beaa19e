"""What every asset of this code location says of itself: group, owner, tier, freshness, kinds, automation."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.partitions import ONE_RUN, ORIGINS
from replenish.contracts.model import Contract
from replenish.contracts.table_schema import freshness_window

AUTOMATION = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
"""Follow the parents, but never a parent whose blocking check failed: `eager` alone would."""

STAGE_OWNERS = {
    "ingest": "team:data_platform",
    "history": "team:data_platform",
    "gold": "team:data_platform",
    "features": "team:forecasting",
    "forecast": "team:forecasting",
    "drift": "team:forecasting",
    "decide": "team:inventory_planning",
    "outcomes": "team:inventory_planning",
    "published": "team:data_platform",
    "maintenance": "team:data_platform",
}
"""Owner of a stage's assets; assets of one stream belong to the owner of its contract."""

TIER_HOURS = {"gold": (30.0, 54.0), "silver": (78.0, 174.0), "bronze": (750.0, 1470.0)}
"""Hours to warning and failure of derived assets. Gold: one missed daily run warns, two fail; silver: a long
week-end, a week; bronze: a month, two."""


def freshness_after(warn_hours: float, fail_hours: float) -> dg.FreshnessPolicy:
    """A time-window policy; Dagster counts from the last materialization."""
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=fail_hours), warn_window=timedelta(hours=warn_hours)
    )


def contract_freshness(contract: Contract) -> dg.FreshnessPolicy | None:
    """The SLA of a stream as Dagster's policy; None for reference data that is never late."""
    window = freshness_window(contract)
    return None if window is None else freshness_after(window.warn_after_hours, window.fail_after_hours)


def stage_settings(group: str, *, tier: str, kinds: Iterable[str], owner: str | None = None) -> dict[str, Any]:
    """Keyword arguments every `dg.asset` of a stage takes: group, owner, tags, kinds, freshness and automation."""
    return {
        "group_name": group,
        "owners": [owner or STAGE_OWNERS[group]],
        "tags": {"tier": tier, "stage": group},
        "kinds": set(kinds),
        "freshness_policy": freshness_after(*TIER_HOURS[tier]),
        "automation_condition": AUTOMATION,
    }


def origin_settings(group: str, *, tier: str, kinds: Iterable[str], owner: str | None = None) -> dict[str, Any]:
    """The same for an asset that is partitioned by origin."""
    return {
        **stage_settings(group, tier=tier, kinds=kinds, owner=owner),
        "partitions_def": ORIGINS,
        "backfill_policy": ONE_RUN,
    }
