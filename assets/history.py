"""History: bronze (rows as accepted) and silver (a ledger of versions) of every stream."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.facts import contract_columns, counts_of, table_result
from assets.gate import Audit, StageResult, gate_specs, run_gated
from assets.settings import contract_freshness, stage_settings
from replenish.contracts.model import Contract
from replenish.contracts.table_schema import pandera_schema, table_owners, table_tags
from replenish.contracts.versions import stored_contracts
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from resources.deployment import DeploymentResource
from resources.journal import JournalResource
from resources.lake import LakeResource


def _settings(contract: Contract) -> dict[str, Any]:
    settings = stage_settings("history", tier=contract.sla.tier, kinds={"delta", "polars"})
    return {
        **settings,
        "owners": list(table_owners(contract)),
        "tags": {**settings["tags"], **table_tags(contract)},
        "freshness_policy": contract_freshness(contract) or settings["freshness_policy"],
    }


def build_bronze(contract: Contract, stored: Contract) -> dg.AssetsDefinition:
    """The asset `bronze_<stream>`: accepted rows as received, appended once per journal record."""
    key = f"bronze_{contract.stream}"

    @dg.asset(
        name=key,
        deps=["event_log"],
        description=f"Accepted rows of `{contract.stream}` as received, append-only. {contract.description}",
        metadata={"dagster/column_schema": contract_columns(stored, "bronze")},
        check_specs=gate_specs(key),
        pool=key,
        **_settings(contract),
    )
    def bronze(deployment: DeploymentResource, journal: JournalResource, lake: LakeResource) -> Iterator[Any]:
        def work(audit: Audit) -> StageResult:
            tables = lake.open()
            commit = append_bronze(contract.stream, contract, journal.open(), deployment.layout, tables, audit)
            return table_result(tables, [commit], contract=f"{contract.stream}@{contract.version}")

        yield from run_gated(key, lambda: pandera_schema(stored, "bronze"), work)

    return bronze


def build_silver(contract: Contract, stored: Contract) -> dg.AssetsDefinition:
    """The asset `silver_<stream>`: every version of every fact, with the instant it became known."""
    key = f"silver_{contract.stream}"

    @dg.asset(
        name=key,
        deps=[f"bronze_{contract.stream}"],
        description=f"Versions of every `{contract.stream}` fact: when it happened, when it was known, reversals.",
        metadata={"dagster/column_schema": contract_columns(stored, "silver")},
        check_specs=gate_specs(key),
        pool=key,
        **_settings(contract),
    )
    def silver(deployment: DeploymentResource, lake: LakeResource) -> Iterator[Any]:
        def work(audit: Audit) -> StageResult:
            tables = lake.open()
            update = update_silver(contract, deployment.dataset(), tables, audit)
            return table_result(tables, [update.commit], **counts_of(update))

        yield from run_gated(key, lambda: pandera_schema(stored, "silver"), work)

    return silver


def history_assets(contracts: dict[str, Contract]) -> list[dg.AssetsDefinition]:
    """Bronze and silver of every contract; tables are judged by what any recorded version of it let in."""
    stored = {**contracts, **stored_contracts()}
    return [build(c, stored[stream]) for stream, c in contracts.items() for build in (build_bronze, build_silver)]
