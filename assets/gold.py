"""Gold: the dbt project as assets, its data tests and unit tests as asset checks."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets

from assets.facts import frame_columns
from assets.settings import AUTOMATION, STAGE_OWNERS, TIER_HOURS, freshness_after
from replenish.contracts.dbt_render import SOURCES_FILE, write_sources
from replenish.contracts.reader import CONTRACT_FOLDER
from replenish.contracts.versions import stored_contracts
from replenish.stores.lake import DeltaLake
from resources.gold import DBT_FOLDER, RESULTS_FILE, GoldResource, put_interpreter_on_path
from resources.lake import LakeResource

put_interpreter_on_path()
GOLD_PROJECT = DbtProject(project_dir=DBT_FOLDER, profiles_dir=DBT_FOLDER)


class GoldTranslator(DagsterDbtTranslator):
    """Names dbt's models and sources as the rest of the graph does: `fct_demand`, `silver_sales`."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """A source is the silver asset it reads; a model is named by itself."""
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey(f"{dbt_resource_props['source_name']}_{dbt_resource_props['name']}")
        return dg.AssetKey(dbt_resource_props["name"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """All models are gold; their folders show as tags."""
        return "gold"

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """The owner of the gold stage."""
        return [STAGE_OWNERS["gold"]]

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> dict[str, str]:
        """Tier and stage, as on every asset, and the folder of the model."""
        return {"tier": "gold", "stage": "gold", "layer": dbt_resource_props.get("fqn", ["", "gold"])[1]}

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition:
        """As for every asset."""
        return AUTOMATION

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The spec with the freshness of its tier."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(freshness_policy=freshness_after(*TIER_HOURS["gold"]))


TRANSLATOR = GoldTranslator(settings=DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))


def prepare_manifest() -> Path:
    """Bring sources and manifest up to date with contracts and models; needs a few seconds where something changed.

    Processes that load definitions at the same time wait for one another: dbt does not write its manifest in one step.
    """
    target = DBT_FOLDER / "target"
    target.mkdir(exist_ok=True)
    with (target / ".parsing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _manifest_in_date()


def _manifest_in_date() -> Path:
    sources = write_sources(stored_contracts(), DBT_FOLDER / "models" / "staging" / SOURCES_FILE)
    inputs = [*CONTRACT_FOLDER.glob("*.odcs.yaml"), sources, *DBT_FOLDER.glob("*.yml")]
    for folder in ("models", "macros", "tests"):
        inputs += [path for path in (DBT_FOLDER / folder).rglob("*") if path.is_file()]
    manifest = GOLD_PROJECT.manifest_path
    if not manifest.exists() or manifest.stat().st_mtime < max(path.stat().st_mtime for path in inputs):
        GOLD_PROJECT.preparer.prepare(GOLD_PROJECT)
    return manifest


def build_gold(manifest: Mapping[str, Any]) -> dg.AssetsDefinition:
    """The dbt models as one operation that builds and tests them in dependency order."""

    @dbt_assets(manifest=manifest, project=GOLD_PROJECT, dagster_dbt_translator=TRANSLATOR, name="gold_models")
    def gold_models(context: dg.AssetExecutionContext, dbt: GoldResource, lake: LakeResource) -> Iterator[Any]:
        # DuckDB forgets its views with the process, so a part of the models cannot be built alone: all are, and only
        # the selected ones reported. Unit tests judge the SQL, not the data, and report by themselves.
        command = ["build", "--exclude-resource-type", "unit_test"]
        build = dbt.cli(command, manifest=manifest, dagster_dbt_translator=TRANSLATOR)
        selected, checks = context.selected_asset_keys, context.selected_asset_check_keys
        for event in build.stream():
            if isinstance(event, dg.AssetMaterialization) and event.asset_key in selected:
                yield model_result(event, lake.open())
            elif isinstance(event, dg.AssetCheckEvaluation) and event.asset_check_key in checks:
                yield test_result(event)

    return gold_models


def model_result(event: dg.AssetMaterialization, lake: DeltaLake) -> dg.MaterializeResult:
    """Dbt's report of a model, with rows, columns and version of the Delta table it wrote; a view has none."""
    table = f"gold/{event.asset_key.to_user_string()}"
    version = lake.version(table)
    if version is None:
        return dg.MaterializeResult(asset_key=event.asset_key, metadata=event.metadata)
    facts: dict[str, Any] = {
        "dagster/row_count": lake.row_count(table),
        "dagster/column_schema": frame_columns(lake.schema(table)),
        "delta_version": version,
        "table": table,
    }
    return dg.MaterializeResult(
        asset_key=event.asset_key,
        metadata={**event.metadata, **facts},
        data_version=dg.DataVersion(str(version)),
    )


def test_result(event: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    """Dbt's report of a data test as the result of its asset check."""
    return dg.AssetCheckResult(
        passed=event.passed,
        asset_key=event.asset_key,
        check_name=event.check_name,
        metadata=event.metadata,
        severity=event.severity,
    )


def unit_test_names(manifest: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Unique id of every dbt unit test to the model it tests and its name."""
    tests = manifest.get("unit_tests", {})
    return {unique_id: (test["model"], test["name"]) for unique_id, test in sorted(tests.items())}


def build_unit_test_check(manifest: Mapping[str, Any]) -> dg.AssetChecksDefinition:
    """Dbt unit tests as asset checks of their models; dagster-dbt reports data tests only."""
    names = unit_test_names(manifest)
    specs = [
        dg.AssetCheckSpec(
            f"unit__{name}", asset=model, description="dbt unit test: hand-made rows in, expected rows out."
        )
        for model, name in names.values()
    ]

    @dg.multi_asset_check(name="gold_unit_tests", specs=specs, can_subset=True)
    def gold_unit_tests(context: dg.AssetCheckExecutionContext, dbt: GoldResource) -> Iterator[dg.AssetCheckResult]:
        run = dbt.cli(["test", "--select", "test_type:unit"], raise_on_error=False)
        run.wait()
        results = json.loads((run.target_path / RESULTS_FILE).read_text(encoding="utf-8"))["results"]
        found = {result["unique_id"]: result for result in results}
        for unique_id, (model, name) in names.items():
            if dg.AssetCheckKey(dg.AssetKey(model), f"unit__{name}") not in context.selected_asset_check_keys:
                continue
            result = found.get(unique_id, {"status": "not run", "message": "dbt did not report it"})
            yield dg.AssetCheckResult(
                passed=result["status"] == "pass",
                asset_key=model,
                check_name=f"unit__{name}",
                metadata={"status": result["status"], "message": (result.get("message") or "")[:2000]},
            )

    return gold_unit_tests
