"""Stored feature sets: the rows of daily sets as known at each origin, and the state logs of latest values.

One asset per committed set. A daily set is a grid: one row per series and origin, added by the engine of the
deployment, from `stored_grid`'s first origin on; an instant set is the state logs that answer it at any instant. Both
are read from silver, and what is already stored is brought on, not built again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from assets.facts import counts_of, described_columns
from assets.gate import WITHOUT_INPUTS, Audit, StageResult, as_markdown, gate_specs, run_gated
from assets.partitions import run_origin
from assets.settings import stage_settings
from assets.table_schemas import state_log_schema, stored_grid_schema
from replenish.contracts.model import Contract
from replenish.control.passed_origins import newest_origin_to_build
from replenish.errors import NotApplicable
from replenish.features.definitions.forecast_names import COMPARED_SET
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.state_logs.forecast_parity import ForecastParity, compare_with_feat_demand
from replenish.features.state_logs.grid_definition import FeatureGrid
from replenish.features.state_logs.grid_update import GridUpdate
from replenish.features.state_logs.stored_sets import state_log_counts, stored_grid
from replenish.features.state_logs.update import StateLogUpdate, update_state_logs
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.engine import EngineResource
from resources.lake import LakeResource

SAME_LOGIC_CHECK = "equals_feat_demand"
PARITY_RUNBOOK = "docs/runbooks/feature_parity.md"
N_DIFFERENCES_SHOWN = 20


def stored_name(feature_set: FeatureSet) -> str:
    """The asset of a set."""
    return f"features_{feature_set.name}"


def build_stored_grid(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> dg.AssetsDefinition:
    """The asset `features_<set>` of a daily set: its grid, and the state logs behind it."""
    key, is_compared = stored_name(feature_set), feature_set.name == COMPARED_SET

    @dg.asset(
        deps=[*silver_of(feature_set), "fct_demand", *(["feat_demand"] if is_compared else [])],
        check_specs=[*gate_specs(key), *([parity_spec(key)] if is_compared else [])],
        **_settings(feature_set, contracts),
    )
    def stored_features(
        context: dg.AssetExecutionContext,
        deployment: DeploymentResource,
        lake: LakeResource,
        clock: ClockResource,
        engine: EngineResource,
    ) -> Iterator[Any]:
        tables, dataset, profile = lake.open(), deployment.dataset(), deployment.profile()

        def begin() -> tuple[FeatureGrid, date]:
            newest = newest_origin_to_build(tables, dataset, clock.now(), run_origin(context))
            return stored_grid(tables, feature_set, dataset, profile, newest)

        def work(audit: Audit) -> StageResult:
            grid, through = begin()
            update = engine.open().update_grid(tables, grid, through, audit)
            return grid_result(update, first_origin=grid.first_origin.isoformat(), **_said(feature_set, contracts))

        def compare() -> ForecastParity:
            grid, origin = begin()
            return compare_with_feat_demand(tables, grid, dataset, profile, origin)

        yield from run_gated(key, lambda: stored_grid_schema(feature_set.entity), work)
        if is_compared:
            yield parity_result(key, compare)

    return stored_features


def build_stored_logs(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> dg.AssetsDefinition:
    """The asset `features_<set>` of a set for any instant: the state logs of its latest values."""
    key = stored_name(feature_set)

    @dg.asset(deps=silver_of(feature_set), check_specs=gate_specs(key), **_settings(feature_set, contracts))
    def stored_logs(lake: LakeResource) -> Iterator[Any]:
        def work(audit: Audit) -> StageResult:
            logs = update_state_logs(lake.open(), feature_set, audit=audit)
            return logs_result(logs, **_said(feature_set, contracts))

        yield from run_gated(key, lambda: state_log_schema(feature_set.entity), work)

    return stored_logs


def grid_result(update: GridUpdate, **metadata: Any) -> StageResult:
    """The report of a grid."""
    if update.commit is None:
        raise NotApplicable("not_applicable: the grid begins after the origin of the run")
    table, version = update.commit.table, update.commit.version
    return StageResult(
        n_rows=update.commit.n_rows,
        # A set of another meaning begins another table, at version 0.
        version=f"{table}@{version}",
        metadata={
            **metadata,
            **counts_of(update),
            "delta_version": version,
            "table": table,
            "state_logs": as_markdown(state_log_counts(update.logs)),
        },
    )


def logs_result(logs: Sequence[StateLogUpdate], **metadata: Any) -> StageResult:
    """The report of the state logs of one set."""
    counts = state_log_counts(logs)
    versions = " ".join(f"{log.commit.table}@{log.commit.version}" for log in logs)
    return StageResult(int(counts["rows"].sum()), versions, {**metadata, "state_logs": as_markdown(counts)})


def parity_spec(key: str) -> dg.AssetCheckSpec:
    """The check that two homes of the same logic agree."""
    return dg.AssetCheckSpec(
        SAME_LOGIC_CHECK,
        asset=key,
        description="At the newest origin the grid says what the columns of feat_demand that mean the same say.",
    )


def parity_result(key: str, compare: Callable[[], ForecastParity]) -> dg.AssetCheckResult:
    """The result of the check; passed where there is nothing to compare, or only lateness differs."""
    try:
        found = compare()
    except WITHOUT_INPUTS as missing:
        said: dict[str, Any] = {"not_applicable": str(missing)}
        return dg.AssetCheckResult(passed=True, check_name=SAME_LOGIC_CHECK, asset_key=key, metadata=said)
    counts = {"n_series": found.n_series, "n_values": found.n_values, "n_late": found.n_late}
    differing = as_markdown(found.differences.head(N_DIFFERENCES_SHOWN))
    return dg.AssetCheckResult(
        passed=found.n_of_logic == 0,
        check_name=SAME_LOGIC_CHECK,
        asset_key=key,
        metadata={
            **counts,
            "n_of_logic": found.n_of_logic,
            "origin": str(found.origin),
            "differing": differing,
            "runbook": PARITY_RUNBOOK,
        },
    )


def silver_of(feature_set: FeatureSet) -> list[str]:
    """The silver assets that a set reads."""
    return [f"silver_{stream}" for stream in dict.fromkeys(source.stream for source in feature_set.sources)]


def _said(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> dict[str, Any]:
    """What every materialization says of its set."""
    return {
        "feature_set": f"{feature_set.name}@{feature_set.version}",
        "feature_set_id": feature_set_digest(feature_set),
        "dagster/column_schema": described_columns(feature_set, contracts),
    }


def _settings(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> dict[str, Any]:
    """What every asset of this file says of itself; the words are the catalogue's."""
    key = stored_name(feature_set)
    return {
        "name": key,
        "pool": key,
        "description": feature_set.description,
        "metadata": _said(feature_set, contracts),
        **stage_settings("features", tier="gold", kinds={"delta", "polars"}),
    }


def stored_feature_assets(contracts: Mapping[str, Contract]) -> list[dg.AssetsDefinition]:
    """One asset per committed feature set."""
    builders = {"daily": build_stored_grid, "instant": build_stored_logs}
    return [builders[feature_set.clock](feature_set, contracts) for feature_set in read_feature_sets().values()]
