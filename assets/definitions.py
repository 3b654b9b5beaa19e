"""The code location: every asset, check, schedule and sensor of the loop, and the resources they run on."""

import json
from collections.abc import Mapping

import dagster as dg

from assets.alerts import step_owners
from assets.decide import decide_assets
from assets.drift import drift_assets
from assets.event_log import build_event_log, build_feeds
from assets.features import feature_assets
from assets.forecast import forecast_assets
from assets.gold import build_gold, build_unit_test_check, prepare_manifest
from assets.history import history_assets
from assets.late_data import late_data_assets
from assets.log_keeping import build_log_keeping, build_sealing_job, build_sealing_schedule, build_shipping
from assets.maintenance import build_maintenance
from assets.outcomes import outcome_assets
from assets.published import published_assets
from assets.reconciliation import reconciliation_assets
from assets.schedules import build_jobs, build_schedules
from assets.sensors import build_sensors
from assets.storage import build_storage_alarms, build_storage_job, build_storage_schedule
from assets.stored_features import stored_feature_assets
from replenish.contracts.reader import read_contracts
from resources.environment import environment_name, resources_for


def build_definitions(*, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """Assemble the code location; `resources` replaces entries by key, which is all a test needs."""
    # First: the dbt project is parsed for the root that the resources name.
    all_resources = {**resources_for(environment_name()), **(resources or {})}
    contracts = read_contracts()
    manifest = json.loads(prepare_manifest().read_text(encoding="utf-8"))
    jobs, storage_check, sealing = build_jobs(), build_storage_job(), build_sealing_job()
    assets = [
        build_event_log(contracts),
        *history_assets(contracts),
        build_gold(manifest),
        *feature_assets(),
        *stored_feature_assets(contracts),
        *forecast_assets(),
        *drift_assets(),
        *decide_assets(),
        *late_data_assets(),
        *reconciliation_assets(),
        *outcome_assets(),
        *published_assets(),
        build_maintenance(),
        *build_log_keeping(),
    ]
    return dg.Definitions(
        assets=[*build_feeds(contracts), *assets],
        asset_checks=[build_unit_test_check(manifest)],
        jobs=[*jobs.values(), storage_check, sealing],
        schedules=[*build_schedules(jobs), build_storage_schedule(storage_check), build_sealing_schedule(sealing)],
        sensors=[*build_sensors(jobs, contracts, step_owners(assets)), build_storage_alarms(), build_shipping()],
        # Small steps: a process for each would cost more than the work. Training has its own pool and run class.
        executor=dg.in_process_executor,
        resources=all_resources,
    )


defs = build_definitions()
