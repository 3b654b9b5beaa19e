"""The domain of replenishment: pure functions, schemas, ports and their adapters.

Nothing here imports Dagster, `assets` or `resources`. Stages (`ingest` .. `outcomes`) never import one another.
"""
