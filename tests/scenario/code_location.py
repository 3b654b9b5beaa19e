"""The code location on a root of its own: what tests ask of sensors, freshness and alerts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.loader import LoadingContextForTest
from dagster._daemon.freshness import FreshnessDaemon

from assets.definitions import build_definitions
from assets.event_log import feed_key
from replenish.contracts.reader import PLATFORM_FOLDER
from resources.environment import resources_for


class CodeLocation:
    """The code location on a root, with an instance of its own; the root needs no more than an empty drop folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.drop = root / "drop"
        self.drop.mkdir(parents=True, exist_ok=True)
        if not (root / "dataset.yaml").exists():
            feed = (PLATFORM_FOLDER / "feeds" / "retailer.yaml").read_text(encoding="utf-8")
            (root / "dataset.yaml").write_text(feed, encoding="utf-8")
        self.resources = resources_for("test", root)
        self.definitions = build_definitions(resources=self.resources)
        self.instance = dg.DagsterInstance.ephemeral()

    def look(self, sensor: str, cursor: str | None = None) -> tuple[list[str | None], str | None]:
        """Run keys a sensor asks for, and its cursor afterwards."""
        definition = self.definitions.resolve_sensor_def(sensor)
        with dg.build_sensor_context(
            instance=self.instance,
            resources=self.resources,
            cursor=cursor,
            definitions=self.definitions,
        ) as context:
            data = definition.evaluate_tick(context)
            return [request.run_key for request in data.run_requests or []], data.cursor

    def ingest(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(asset_selection=[dg.AssetKey("event_log")], instance=self.instance)

    def judge_freshness(self) -> None:
        """One round of Dagster's freshness daemon."""
        context: Any = LoadingContextForTest(self.instance)
        graph = self.definitions.resolve_asset_graph()
        daemon = FreshnessDaemon()

        async def judge() -> None:
            for node in graph.asset_nodes:
                await daemon._evaluate_asset(context=context, node=node)

        asyncio.run(judge())

    def state(self, stream: str) -> str:
        key = dg.AssetKey(feed_key(stream))
        return self.instance.get_freshness_state_records([key])[key].freshness_state.value

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.root / "alerts").glob("*.json"))]
