"""Verdicts every stage may ask for: freshness, policy, alerts. Plain functions, no stage logic, no Dagster."""
