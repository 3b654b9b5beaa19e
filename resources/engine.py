"""The engine that evaluates feature sets: this process, or a Spark cluster behind Spark Connect."""

import dagster as dg

from replenish.features.cluster.engine import EmbeddedEngine, FeatureEngine

ENGINES = ("embedded", "cluster")


class EngineResource(dg.ConfigurableResource):
    """The feature engine of one deployment; assets call `open().update_grid(...)` whichever it is."""

    engine: str = "embedded"
    address: str = ""
    """Of the Spark Connect server, such as `sc://spark-connect:15002`; given by a variable: it may hold a token."""
    settings: dict[str, str] = {}
    """More settings of the Spark session, such as the number of shuffle partitions."""

    def open(self) -> FeatureEngine:
        """The engine; of a cluster the session begins with the first evaluation.

        Raises:
            DagsterInvariantViolationError: Not one of `ENGINES`, or a cluster without an address.
        """
        if self.engine not in ENGINES:
            raise dg.DagsterInvariantViolationError(f"the engine is {self.engine!r}; known: {', '.join(ENGINES)}")
        if self.engine == "embedded":
            return EmbeddedEngine()
        if not self.address:
            raise dg.DagsterInvariantViolationError("the engine is a cluster: it needs an address")
        # Imported here: deployments without a cluster need not load it.
        from replenish.features.cluster.spark_engine import ClusterEngine

        return ClusterEngine(self.address, self.settings)
