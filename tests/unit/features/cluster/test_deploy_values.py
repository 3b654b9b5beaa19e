"""The values for Dagster's chart: names that the chart knows, limits that the deployment's own settings have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[4]
VALUES = yaml.safe_load((ROOT / "docs" / "deploy" / "values.yaml").read_text(encoding="utf-8"))
DAGSTER = yaml.safe_load((ROOT / "resources" / "dagster.yaml").read_text(encoding="utf-8"))

OPEN: dict[str, Any] = {}
"""Any content: Kubernetes' own objects."""
CHART: dict[str, Any] = {
    "global": {"postgresqlSecretName": None},
    "generatePostgresqlPasswordSecret": None,
    "postgresql": {
        "enabled": None,
        "postgresqlHost": None,
        "postgresqlUsername": None,
        "postgresqlDatabase": None,
        "service": {"port": None},
    },
    "dagster-user-deployments": {
        "enabled": None,
        "deployments": {
            "name": None,
            "image": {"repository": None, "tag": None, "pullPolicy": None},
            "codeServerArgs": OPEN,
            "port": None,
            "includeConfigInLaunchedRuns": {"enabled": None},
            "env": OPEN,
            "envSecrets": OPEN,
            "volumes": OPEN,
            "volumeMounts": OPEN,
            "nodeSelector": OPEN,
            "resources": OPEN,
        },
    },
    "runLauncher": {
        "type": None,
        "config": {
            "k8sRunLauncher": {
                "imagePullPolicy": None,
                "loadInclusterConfig": None,
                "failPodOnRunFailure": None,
                "runK8sConfig": {"containerConfig": OPEN, "podSpecConfig": OPEN, "jobSpecConfig": OPEN},
            }
        },
    },
    "concurrency": {
        "enabled": None,
        "pools": {"defaultLimit": None, "granularity": None, "opGranularityRunBuffer": None},
        "runs": {"maxConcurrentRuns": None, "tagConcurrencyLimits": {"key": None, "value": None, "limit": None}},
    },
    "dagsterDaemon": {
        "enabled": None,
        "runCoordinator": {"enabled": None, "type": None, "config": {"queuedRunCoordinator": OPEN}},
        "runMonitoring": {"enabled": None, "startTimeoutSeconds": None, "pollIntervalSeconds": None},
        "runRetries": {"enabled": None},
    },
    "dagsterWebserver": {"replicaCount": None, "enableReadOnly": None, "service": {"type": None, "port": None}},
    "ingress": {"enabled": None},
    "retention": {
        "enabled": None,
        "schedule": {"purgeAfterDays": None},
        "sensor": {"purgeAfterDays": {"skipped": None, "success": None, "failure": None, "started": None}},
    },
    "telemetry": {"enabled": None},
}
"""Names of the chart that a deployment of this platform may set; None = a plain value."""


def unknown(values: Any, known: Any, path: str = "") -> list[str]:
    if isinstance(values, list):
        return [found for item in values for found in unknown(item, known, path)]
    if known is OPEN or not isinstance(values, dict):
        return []
    if known is None:
        return [path]
    strange = [f"{path}.{key}" for key in values if key not in known]
    return strange + [
        found for key, value in values.items() if key in known for found in unknown(value, known[key], f"{path}.{key}")
    ]


def snake(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


def test_the_chart_knows_every_name() -> None:
    assert unknown(VALUES, CHART) == []
    assert unknown({"concurrency": {"pools": {"default_limit": 1}}}, CHART) == [".concurrency.pools.default_limit"]


def test_limits_are_those_of_the_deployments_own_settings() -> None:
    limits = {key: value for key, value in VALUES["concurrency"].items() if key != "enabled"}
    assert VALUES["concurrency"]["enabled"] and snake(limits) == DAGSTER["concurrency"]
    # The chart refuses limits in both places.
    assert VALUES["dagsterDaemon"]["runCoordinator"]["config"] == {"queuedRunCoordinator": {}}
    assert VALUES["telemetry"] == DAGSTER["telemetry"]
    kept = VALUES["retention"]["sensor"]["purgeAfterDays"]
    own = DAGSTER["retention"]["sensor"]["purge_after_days"]
    assert {name: kept[name] for name in own} == own
    assert VALUES["retention"]["schedule"]["purgeAfterDays"] == DAGSTER["retention"]["schedule"]["purge_after_days"]


def test_variables_are_read_by_the_code_and_secrets_are_not_written_down() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "resources").glob("*.py"))
    names = {variable["name"] for variable in deployment["env"]}
    assert names >= {"REPLENISH_ENV", "REPLENISH_ROOT", "REPLENISH_ENGINE"}
    assert all(name in code for name in (*names, "REPLENISH_SPARK_REMOTE"))
    assert deployment["envSecrets"]
    text = (ROOT / "docs" / "deploy" / "values.yaml").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(- )?\w*(password|token|remote):\s*\S", text, re.IGNORECASE | re.MULTILINE)


def test_the_lake_lies_in_the_root_and_every_mount_has_its_volume() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    root = next(v["value"] for v in deployment["env"] if v["name"] == "REPLENISH_ROOT")
    mounts = {mount["name"]: mount["mountPath"] for mount in deployment["volumeMounts"]}
    assert mounts == {"root": root, "lake": f"{root}/lake"}
    assert {volume["name"] for volume in deployment["volumes"]} == set(mounts)
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert deployment["image"]["tag"] != "latest"
